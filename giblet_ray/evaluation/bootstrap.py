"""How far a summary over voxels would move with other voxels of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError

COVERAGE = 0.95
N_RESAMPLES = 1000
_CHUNK = 2**22


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of :data:`COVERAGE`.

    Attributes
    ----------
    low, high : float
        Percentiles of the summary over resamples.
    n_voxels : int
        Voxels that it is taken over.
    """

    low: float
    high: float
    n_voxels: int


def bootstrap_interval(
    scores_V: NDArray,
    summary: Callable[[NDArray], NDArray],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Resample voxels with replacement, and return the percentile interval of a summary.

    Parameters
    ----------
    scores_V : ndarray
        (V,) score of each voxel; NaN for those not scored, which are left out.
    summary : callable
        From scores (..., n) to (...), such as ``lambda r: r.mean(axis=-1)``.
    n_resamples : int
        Resamples.
    seed : int
        Of the resampling.

    Raises
    ------
    InputError
        Where no voxel was scored.

    Notes
    -----
    It tells how much the choice of voxels matters, not how much that of TRs does. Neighbouring
    voxels resemble one another, so that for smooth scans it is too narrow.
    """
    scores = np.asarray(scores_V, np.float64)
    scores = scores[np.isfinite(scores)]
    n = len(scores)
    if not n:
        raise InputError(f"scores_V: none of {len(scores_V)} voxels was scored, one must be")
    random = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    found = [
        summary(scores[random.integers(0, n, (min(rows, n_resamples - start), n), np.int32)])
        for start in range(0, n_resamples, rows)
    ]
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(np.concatenate(found), [tail, 100 - tail])
    return Interval(float(low), float(high), n)
