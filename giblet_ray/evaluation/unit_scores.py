"""Scores of units: of a scan, of a subject over its scans, and over subjects.

Shapes: V units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UnitScores:
    """Scores of each unit: of one scan, or their means over scans or subjects."""

    pearson_V: Floats
    """(V,) float64 Pearson r over TRs. NaN where no scan is scored: masked, or of constant BOLD. 0
    where the prediction is constant: it explains nothing."""
    r2_V: Floats
    """(V,) float64 coefficient of determination, 1 - sum (t - p)^2 / sum (t - mean t)^2 with the
    mean of the scan's own TRs; NaN where `pearson_V` is."""
    mse: float
    """Mean squared error over TRs and units that are not masked, whatever the scan."""
    n_trs: int
    """TRs that were scored, those of all scans together."""

    def summary(self) -> dict[str, float]:
        """Return pearson_mean, pearson_median, pearson_p95, r2_mean (over scored units), mse."""
        pearson = self.pearson_V[np.isfinite(self.pearson_V)]
        return {
            "pearson_mean": float(pearson.mean()),
            "pearson_median": float(np.median(pearson)),
            "pearson_p95": float(np.percentile(pearson, 95)),
            "r2_mean": float(np.nanmean(self.r2_V)),
            "mse": self.mse,
        }


@dataclass(frozen=True)
class HeldOutScores:
    """Scores of a model on what it was not trained on, at each level."""

    scans: tuple[UnitScores | None, ...]
    """Of each scan; None for one without TRs."""
    subjects: Mapping[str, UnitScores]
    """Means over each subject's scans, unit by unit."""
    mean: UnitScores | None
    """Mean over subjects, unit by unit, each unit over the subjects that have a score of it; None
    where units of subjects differ, so that unit 7 is not the same in each."""

    @property
    def n_trs(self) -> int:
        """TRs of all scans together."""
        return sum(scores.n_trs for scores in self.subjects.values())

    def arrays(self) -> dict[str, Floats]:
        """Return ``pearson_V`` and ``r2_V`` of the mean, or, without one, ``pearson_V/01`` ..."""
        if self.mean is not None:
            return {"pearson_V": self.mean.pearson_V, "r2_V": self.mean.r2_V}
        return {
            f"{name}/{subject}": values
            for subject, scores in self.subjects.items()
            for name, values in (("pearson_V", scores.pearson_V), ("r2_V", scores.r2_V))
        }

    def summary(self) -> dict[str, float]:
        """Return :meth:`UnitScores.summary` of the mean, or the mean of the subjects' own."""
        if self.mean is not None:
            return self.mean.summary()
        own = [scores.summary() for scores in self.subjects.values()]
        return {name: float(np.mean([each[name] for each in own])) for name in own[0]}


def mean_scores(scores: Sequence[UnitScores]) -> UnitScores:
    """Return the mean at each unit, over those that have a score of it; NaN where none has.

    Squared errors are averaged over TRs, since that is what a loss does.
    """
    counted = [each for each in scores if np.isfinite(each.mse)]
    n_counted = sum(each.n_trs for each in counted)
    return UnitScores(
        nanmean([each.pearson_V for each in scores]),
        nanmean([each.r2_V for each in scores]),
        sum(each.mse * each.n_trs for each in counted) / n_counted if counted else np.nan,
        sum(each.n_trs for each in scores),
    )


def nanmean(values: Sequence[NDArray]) -> Floats:
    """Return the mean of the numbers at each place, NaN where there is none."""
    stacked = np.stack(values)
    finite = np.isfinite(stacked)
    count = finite.sum(axis=0)
    total = np.where(finite, stacked, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
