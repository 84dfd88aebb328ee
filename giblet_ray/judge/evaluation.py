"""What is said of a run on its test TRs: by unit, in numbers for MLflow, and in words.

Shapes: V units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.seeds import Seeds
from giblet_ray.evaluation.block_bootstrap import MeanInterval
from giblet_ray.evaluation.influence import MeanR
from giblet_ray.evaluation.null import Null
from giblet_ray.evaluation.paired import PairedTest
from giblet_ray.evaluation.score import Score
from giblet_ray.evaluation.unit_scores import UnitScores
from giblet_ray.judge.courses import Course
from giblet_ray.judge.members import MemberScore
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.multimodal.responses import LearnedResponses
from giblet_ray.spaces.labels import Labels

Q = 0.05
"""False discovery rate that units are called significant at."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OfSubject:
    """What is said of a subject's units."""

    units_V: np.ndarray
    """(V,) int, index of each unit among the data set's."""
    pearson_V: Floats
    r2_V: Floats
    p_V: Floats
    q_V: Floats
    """(V,) float64: r and R2, means over the subject's scans; one-sided p of r, and after Benjamini
    & Hochberg. NaN where not scored."""
    ceiling_V: Floats | None = None
    normalised_V: Floats | None = None
    """(V,) noise ceiling as r, and r / ceiling, NaN where the ceiling is within noise."""
    shared_low_V: Floats | None = None
    shared_high_V: Floats | None = None
    """(V,) bounds of the shared ceiling: r of the subject's BOLD with the mean of the others', and
    of all. They bound what subjects share, and divide nothing."""

    def placed(self, values_V: Floats, n_units: int) -> NDArray[np.float32]:
        """Return values of its units among all of the data set's, (n_units,), NaN elsewhere."""
        of_all = np.full(n_units, np.nan, np.float32)
        of_all[self.units_V] = values_V
        return of_all


@dataclass(frozen=True)
class Baseline:
    """Ridge on the same parts, units and TRs."""

    name: str
    """Of its run."""
    model: dict[str, Any]
    """Its settings."""
    mean: MeanR
    """Its mean r, and what each TR adds to it."""
    pearson_V: dict[str, Floats]
    """(V,) r of each subject's units."""
    beside: PairedTest
    """The run's mean r, minus its."""


@dataclass(frozen=True)
class Partition:
    """How much of a prediction each set of parts carries."""

    how: str
    """product, subsets, permuted or retrained: see :mod:`giblet_ray.judge.partition`."""
    words: str
    """The same in words, with what it assumes."""
    shares: dict[str, dict[tuple[str, ...], Floats]]
    """By subject, of each set of parts: (V,) float64 of R2; NaN where a unit is not scored."""
    pearson: dict[str, dict[tuple[str, ...], Floats]] = field(default_factory=dict)
    """The same of r, where r is divided; empty elsewhere."""

    @property
    def means(self) -> dict[tuple[str, ...], float]:
        """Mean share of each set of parts in R2, over units, then subjects."""
        return _means(self.shares)

    @property
    def pearson_means(self) -> dict[tuple[str, ...], float]:
        """The same of r."""
        return _means(self.pearson)

    def csv(self) -> str:
        """Return the means as a table: parts, R2, and r where it is divided."""
        r_means = self.pearson_means
        rows = [
            f"{' + '.join(of)},{mean:.6f},{r_means[of]:.6f}"
            if r_means
            else f"{' + '.join(of)},{mean:.6f}"
            for of, mean in self.means.items()
        ]
        return "\n".join(["parts,r2,pearson" if r_means else "parts,r2", *rows, ""])

    def table(self) -> dict[str, str]:
        """Return a row of each set of parts, in words; means over units, then subjects."""
        means, r_means = self.means, self.pearson_means
        rows = {}
        for of, mean in means.items():
            r = f", r {r_means[of]:+.4f}" if of in r_means else ""
            rows[" + ".join(of)] = f"R2 {mean:+.4f}{r}"
        if not self.pearson:  # what is lost without one part and another does not add up
            rows["together"] = f"R2 {sum(means.values()):+.4f}"
        return rows | {"by": self.words}


@dataclass(frozen=True)
class Evaluation:
    """What is said of a run."""

    name: str
    """Of the run."""
    folds: tuple[OpenedRun, ...]
    """Its checkpoint and data; of a training in folds, all of them."""
    judged: Judged
    """Its scores by name."""
    subjects: dict[str, OfSubject]
    """By subject."""
    interval: MeanInterval
    """Of the mean r."""
    null: Null
    """Mean over subjects, unit by unit."""
    ceiling: str
    """How the ceiling was found, in words; empty without one."""
    mean: MeanR
    """The mean r, and what each TR adds to it."""
    courses: tuple[Course, ...]
    """Time courses of the best, the median and the worst unit."""
    baseline: Baseline | None = None
    """Ridge beside it."""
    group: UnitScores | None = None
    """Of the mean prediction, on the mean BOLD of the subjects who saw the same films; r alone says
    something, since both are means of z-scores."""
    partition: Partition | None = None
    """Which part carries the prediction."""
    members: tuple[MemberScore, ...] = ()
    """Of a stack, by how much each member carries."""
    responses: dict[str, LearnedResponses] = field(default_factory=dict)
    """Of each subject's units, as the model (of the first fold) has learned them; none of a model
    without."""
    regions: dict[str, Labels] = field(default_factory=dict)
    """Regions of all units of each subject's data; none without an atlas."""
    seeds: Seeds | None = None
    """What its settings reach with several seeds, where its sweep has trained them: on validation
    TRs."""

    @property
    def opened(self) -> OpenedRun:
        """The checkpoint and data of the run, or of its first fold."""
        return self.folds[0]

    def read_again(self, readings: int) -> Evaluation:
        """Return the same, as what the test TRs were read for the so-many-th time for."""
        judged = self.judged.model_copy(update={"readings": readings})
        return replace(self, judged=judged)

    @property
    def share_significant(self) -> float:
        """Share of the scored units of all subjects whose q is at most :data:`Q`."""
        q = np.concatenate([each.q_V for each in self.subjects.values()])
        return float((q[np.isfinite(q)] <= Q).mean())

    @property
    def normalised(self) -> float | None:
        """Mean over units, then subjects, of r / ceiling; None without a ceiling."""
        return _mean(each.normalised_V for each in self.subjects.values())

    @property
    def shared_ceiling(self) -> tuple[float, float] | None:
        """Bounds of the shared ceiling, means over units, then subjects; None without one."""
        low = _mean(each.shared_low_V for each in self.subjects.values())
        high = _mean(each.shared_high_V for each in self.subjects.values())
        return None if low is None or high is None else (low, high)

    def metrics(self) -> dict[str, float]:
        """Return what MLflow is told."""
        name = self.judged.name
        told = {
            **self.judged.logged(),
            f"{name}/pearson_mean_low": self.interval.low,
            f"{name}/pearson_mean_high": self.interval.high,
            f"{name}/null_p95_of_mean": self.null.percentile(),
            f"{name}/share_significant": self.share_significant,
        }
        if self.normalised is not None:
            told[f"{name}/pearson_of_ceiling"] = self.normalised
        if self.shared_ceiling is not None:
            low, high = self.shared_ceiling
            told |= {f"{name}/shared_ceiling_low": low, f"{name}/shared_ceiling_high": high}
        if self.group is not None:
            told[f"{name}_group/pearson_mean"] = self.group.summary()["pearson_mean"]
        if self.baseline is not None:
            beside = self.baseline.beside
            told |= {
                f"{name}/ridge_pearson_mean": self.baseline.mean.value,
                f"{name}/minus_ridge": beside.difference,
                f"{name}/minus_ridge_low": beside.low,
                f"{name}/minus_ridge_high": beside.high,
                f"{name}/minus_ridge_p": beside.p,
            }
        if self.seeds is not None:
            told |= self.seeds.logged()
        for member in self.members:
            told |= member.logged(name)
        for subject, of in self.responses.items():
            told[f"responses/{subject}/peak_seconds_median"] = float(np.nanmedian(of.peak_V))
        if self.partition is not None:
            how = f"{name}/{self.partition.how}"
            for kind, means in (
                ("r2", self.partition.means),
                ("pearson", self.partition.pearson_means),
            ):
                told |= {f"{how}/{kind}/{'-'.join(of)}": mean for of, mean in means.items()}
        return told

    def summary(self) -> dict[str, str]:
        """Return what a reader needs, in words."""
        null, n = self.null, self.judged.n_trs
        chosen = "that nothing was chosen on"
        if len(self.folds) > 1:
            chosen = f"of {len(self.folds)} folds, each by a model that it did not train or choose"
        rows = {
            f"{self.judged.name} r, mean": str(self.interval),
            "by chance": (
                f"a mean of {null.percentile():.4f} or less in 95 of 100 shifts of BOLD; smallest "
                f"p {null.smallest_p:.2g}"
            ),
            "significant": f"{self.share_significant:.1%} of units, q <= {Q:g}",
            "judged on": f"{n:,} TRs {chosen}, read {self.judged.readings:,} "
            f"time{'s' if self.judged.readings > 1 else ''}",
        }
        if self.seeds is not None:
            label = Score(self.seeds.score).label
            rows["its settings"] = f"{label} {self.seeds.in_words()}, of which this is the best"
        if self.normalised is not None:
            rows["of the ceiling"] = f"{self.normalised:.0%}, by {self.ceiling}"
        if self.shared_ceiling is not None:
            low, high = self.shared_ceiling
            rows["shared ceiling"] = (
                f"r {low:.4f} to {high:.4f}, of a subject's BOLD with the mean of the others' and "
                "of all: bounds what subjects share, not what a subject's own head may reach"
            )
        if self.group is not None:
            r = self.group.summary()["pearson_mean"]
            rows[f"{self.judged.name}_group r, mean"] = (
                f"{r:.4f}, of the mean BOLD of {len(self.subjects)} subjects, which has less "
                "noise; no subject's score"
            )
        if self.baseline is not None:
            rows["ridge, banded"] = f"{self.baseline.mean.value:.4f}, run {self.baseline.name}"
            rows["minus ridge"] = str(self.baseline.beside)
        return rows | {f"member {each.name}": each.in_words() for each in self.members}


def _mean(values: Iterable[NDArray | None]) -> float | None:
    """Return the mean over units, then subjects, of those that have a number; None without one."""
    means = [
        float(np.nanmean(each_V))
        for each_V in values
        if each_V is not None and np.isfinite(each_V).any()
    ]
    return float(np.mean(means)) if means else None


def _means(shares: dict[str, dict[tuple[str, ...], Floats]]) -> dict[tuple[str, ...], float]:
    sets = dict.fromkeys(of for each in shares.values() for of in each)
    found = {of: _mean(each[of] for each in shares.values()) for of in sets}
    return {of: mean for of, mean in found.items() if mean is not None}
