"""Time courses of the units that are predicted best, in the middle, and worst.

Shapes: T test TRs of a scan, V units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.evaluation.influence import ScanRows, z_scored


@dataclass(frozen=True)
class Course:
    """A unit's test TRs in one scan, predicted and measured."""

    which: str
    """best, median or worst, by r over the test TRs of all the subject's scans."""
    subject: str
    stimulus: str
    """Of the scan: the subject's first of those with the most test TRs."""
    unit: int
    """Index among the units that are predicted."""
    pearson: float
    """Its r, mean over the subject's scans."""
    tr_T: NDArray[np.integer]
    """(T,) int, BOLD TRs, counted from the onset of the film."""
    prediction_T: NDArray[np.float64]
    bold_T: NDArray[np.float64]
    """(T,) float64, z-scored over these TRs, as r takes them."""


def unit_courses(
    rows: Sequence[ScanRows], pearson_V: Mapping[str, NDArray[np.float64]]
) -> tuple[Course, ...]:
    """Return the courses of the best, the median and the worst unit of all subjects.

    Parameters
    ----------
    rows : sequence of ScanRows
        The test TRs of all scans.
    pearson_V : mapping of str to ndarray
        (V,) r of each subject's units; NaN where not scored.
    """
    scored = sorted(
        (float(values[unit]), subject, int(unit))
        for subject, values in pearson_V.items()
        for unit in np.flatnonzero(np.isfinite(values))
    )
    chosen = {"best": scored[-1], "median": scored[len(scored) // 2], "worst": scored[0]}
    courses = []
    for which, (pearson, subject, unit) in chosen.items():
        scans = [each for each in rows if each.subject == subject]
        of = max(scans, key=lambda each: len(each.tr_T))
        one = slice(unit, unit + 1)
        (prediction, _), (bold, _) = (
            z_scored(of.prediction_TV[:, one]),
            z_scored(of.bold_TV[:, one]),
        )
        series = prediction[:, 0].cpu().numpy(), bold[:, 0].cpu().numpy()
        courses.append(Course(which, subject, of.stimulus, unit, pearson, of.tr_T, *series))
    return tuple(courses)
