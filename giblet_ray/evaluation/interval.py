"""How far a mean r would move with other TRs of such films: an interval from its influences alone.

Units are never drawn: they depend on one another, and an interval over them covers the mean in a
third of the cases where it claims 95 %. See :mod:`.block_bootstrap` for one that needs the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from giblet_ray.evaluation.influence import MeanR
from giblet_ray.evaluation.long_run import n_cosines, slow_cosines, student_quantile

COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval of :data:`COVERAGE`."""

    low: float
    high: float
    """Its ends."""
    n_trs: int
    """Film TRs, counted once for all subjects."""


def mean_interval(mean: MeanR, least_trs: int) -> Interval:
    """Return Student's interval of a mean r, for these subjects and units.

    ::

        mean r  +-  t(N) * sqrt(mean of a_j^2),   a_j the N slowest cosines of the influences

    Parameters
    ----------
    mean : MeanR
        Over scans, subjects and units, with what each film TR adds to it.
    least_trs : int
        Errors are taken to last this long at least: the haemodynamic response.

    Notes
    -----
    Assumes what :mod:`.long_run` does: that TRs further apart than its cosines resolve are
    independent.
    """
    series = mean.series
    cosines_N = slow_cosines(series, n_cosines(mean.stretches, least_trs))
    error = float(np.sqrt(np.mean(cosines_N**2)))
    half = error * student_quantile((1 + COVERAGE) / 2, len(cosines_N))
    return Interval(mean.value - half, mean.value + half, len(series))
