"""Samples at any times to one row per TR, by absolute time, so that nothing drifts.

::

    samples      a    b  c      d        e    f   g      h
    TR           |       0       |       1       |       2       |    each [start, end)
    mean         (a + b + c)/3   (d + e + f)/3     (g + h)/2
    nearest              c               e               h            to the middle, *
    middles              *               *               *

Shapes: N samples, R TRs, D numbers.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds

Resampling = Literal["mean", "nearest"]

_SLACK_SECONDS = 1e-6
"""Times are decimals, or sums of them: 2.9999999999999996 s means 3."""


def resample(
    values_ND: np.ndarray,
    times_N: np.ndarray,
    n_trs: int,
    tr_seconds: float,
    rule: Resampling,
    where: str,
) -> np.ndarray:
    """Give each TR its row.

    Parameters
    ----------
    values_ND : ndarray of float32, shape (samples, D)
    times_N : ndarray of float64, shape (samples,)
        Seconds from the film's start, never falling.
    n_trs : int
    tr_seconds : float
    rule : {'mean', 'nearest'}
        mean: over the samples in the TR, [i, i + 1) TRs; each counts the same. nearest: the
        sample nearest the TR's middle, the earlier of two that are as near; at most one TR away.
    where : str
        File, for messages.

    Returns
    -------
    values_RD : ndarray of float32, shape (n_trs, D)

    Raises
    ------
    InputError
        A TR has no sample: nothing is filled in.
    """
    tr = exact_seconds(tr_seconds)
    if rule == "mean":
        edges = np.array([float(i * tr) for i in range(n_trs + 1)]) - _SLACK_SECONDS
        bounds = np.searchsorted(times_N, edges)
        if len(empty := np.flatnonzero(np.diff(bounds) == 0)):
            raise _no_sample(times_N, int(empty[0]), tr, where)
        rows = [
            values_ND[start:stop].mean(axis=0, dtype=np.float64) for start, stop in pairwise(bounds)
        ]
        return np.array(rows, np.float32)
    middles_R = np.array([float((i + Fraction(1, 2)) * tr) for i in range(n_trs)])
    after_R = np.clip(np.searchsorted(times_N, middles_R), 1, max(1, len(times_N) - 1))
    before_R = after_R - 1
    after_R = np.minimum(after_R, len(times_N) - 1)
    to_before, to_after = (np.abs(times_N[each] - middles_R) for each in (before_R, after_R))
    # The earliest of samples at one time, as of two that are as near.
    chosen_R = np.where(to_before <= to_after + _SLACK_SECONDS, before_R, after_R)
    chosen_R = np.searchsorted(times_N, times_N[chosen_R])
    far_R = np.minimum(to_before, to_after) > float(tr) + _SLACK_SECONDS
    if far_R.any():
        raise _no_sample(times_N, int(np.argmax(far_R)), tr, where)
    return np.ascontiguousarray(values_ND[chosen_R], np.float32)


def _no_sample(times_N: np.ndarray, index: int, tr: Fraction, where: str) -> InputError:
    return InputError(
        f"{where}: has no sample in TR {index}, {float(index * tr):g} to "
        f"{float((index + 1) * tr):g} s, or none near enough; its {len(times_N)} samples lie "
        f"between {times_N[0]:g} and {times_N[-1]:g} s (with fewer samples than TRs, "
        "--resampling NAME=nearest takes one that is at most a TR from the middle)"
    )
