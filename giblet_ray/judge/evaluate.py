"""Everything that is said of runs on their test TRs: scores, nulls, intervals, ceiling, ridge.

Shapes: V units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.config import HRF_SECONDS
from giblet_ray.dataset.splits import whole_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.block_bootstrap import MeanInterval, bootstrap_mean_r
from giblet_ray.evaluation.ceiling import Ceiling, explainable_ceiling, split_half_ceiling
from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r, scan_influence
from giblet_ray.evaluation.null import Null, draw_shifts, mean_null, shift_null
from giblet_ray.evaluation.paired import PairedTest, paired_tests
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.judge import judged_of
from giblet_ray.judge.opened import OpenedRun, open_run, read_bold
from giblet_ray.judge.rows import all_rows, judged_scans
from giblet_ray.progress import Progress

Q = 0.05
"""False discovery rate that units are called significant at."""


@dataclass(frozen=True)
class OfSubject:
    """What is said of a subject's units.

    Attributes
    ----------
    units_V : ndarray
        (V,) int, index of each unit among the data set's.
    pearson_V, r2_V, p_V, q_V : ndarray
        (V,) float64: r and R2, means over the subject's scans; one-sided p of r, and after
        Benjamini & Hochberg. NaN where not scored.
    ceiling_V, normalised_V : ndarray or None
        (V,) noise ceiling as r, and r / ceiling, NaN where the ceiling is within noise.
    """

    units_V: np.ndarray
    pearson_V: np.ndarray
    r2_V: np.ndarray
    p_V: np.ndarray
    q_V: np.ndarray
    ceiling_V: np.ndarray | None
    normalised_V: np.ndarray | None


@dataclass(frozen=True)
class Evaluation:
    """What is said of a run.

    Attributes
    ----------
    name : str
        Of the run.
    opened : OpenedRun
        Its checkpoint and data.
    judged : Judged
        Its scores by name.
    subjects : dict of str to OfSubject
        By subject.
    interval : MeanInterval
        Of the mean r.
    null : Null
        Mean over subjects, unit by unit.
    ceiling : str
        How the ceiling was found, in words; empty without one.
    mean : MeanR
        The mean r, and what each TR adds to it.
    baseline : Evaluation or None
        Ridge on the same parts, units and TRs.
    beside : PairedTest or None
        The run's mean r, minus the baseline's.
    """

    name: str
    opened: OpenedRun
    judged: Judged
    subjects: dict[str, OfSubject]
    interval: MeanInterval
    null: Null
    ceiling: str
    mean: MeanR
    baseline: Evaluation | None = None
    beside: PairedTest | None = None

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
        means = [
            float(np.nanmean(each.normalised_V))
            for each in self.subjects.values()
            if each.normalised_V is not None and np.isfinite(each.normalised_V).any()
        ]
        return float(np.mean(means)) if means else None

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
        if self.baseline is not None and self.beside is not None:
            told |= {
                f"{name}/ridge_pearson_mean": self.baseline.interval.value,
                f"{name}/minus_ridge": self.beside.difference,
                f"{name}/minus_ridge_low": self.beside.low,
                f"{name}/minus_ridge_high": self.beside.high,
                f"{name}/minus_ridge_p": self.beside.p,
            }
        return told

    def summary(self) -> dict[str, str]:
        """Return what a reader needs, in words."""
        null, n = self.null, self.judged.n_trs
        rows = {
            f"{self.judged.name} r, mean": str(self.interval),
            "by chance": (
                f"a mean of {null.percentile():.4f} or less in 95 of 100 shifts of BOLD; smallest "
                f"p {null.smallest_p:.2g}"
            ),
            "significant": f"{self.share_significant:.1%} of units, q <= {Q:g}",
            "judged on": f"{n:,} TRs that nothing was chosen on, read {self.judged.readings:,} "
            f"time{'s' if self.judged.readings > 1 else ''}",
        }
        if self.normalised is not None:
            rows["of the ceiling"] = f"{self.normalised:.0%}, by {self.ceiling}"
        if self.baseline is not None and self.beside is not None:
            test = self.beside
            rows["ridge, banded"] = f"{self.baseline.interval.value:.4f}, run {self.baseline.name}"
            rows["minus ridge"] = (
                f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.2g} "
                "(paired, two-sided)"
            )
        return rows


def evaluate_run(
    location: str,
    job: EvaluateJob,
    show: Callable[[str], None],
    ridge: Callable[[OpenedRun], str] | None,
) -> Evaluation:
    """Evaluate the best checkpoint of a run on its test TRs.

    Parameters
    ----------
    location : str
        Folder or URI of a run or checkpoint.
    job : EvaluateJob
        How.
    show : callable
        Takes each line that the user should see.
    ridge : callable or None
        Gives the folder of a ridge run on the same data, which is set beside it.

    Raises
    ------
    InputError
        If something cannot be read, or the test TRs are too few to say anything.
    """
    opened = open_run(location, job.dataset, packages=job.packages)
    name = opened.checkpoint.record.config["name"]
    tr_seconds = opened.data.dataset.manifest.tr_seconds
    least_trs = whole_trs(HRF_SECONDS, tr_seconds)
    # First, so that a ceiling which cannot be had is told before ridge is fitted.
    ceilings = find_ceilings(opened, job.ceiling, least_trs, job.seed)
    beside = None
    if ridge is not None and opened.checkpoint.record.config["model"]["kind"] != "ridge":
        of_ridge = job.model_copy(update={"ceiling": "none"})
        beside = evaluate_run(ridge(opened), of_ridge, show, None)
    with Progress(show) as progress:

        def report(doing: str) -> Callable[[float], None]:
            return lambda done: setattr(progress, "doing", f"{name}: {doing} {done:.0%}")

        rows = all_rows(opened, report("predicting test TRs"))
        scores = _scores(rows, opened)
        nulls = _nulls(rows, least_trs, job, report("chance"))
        interval = bootstrap_mean_r(
            rows, least_trs, job.resamples, job.seed, report("resampling blocks of TRs")
        )
    indices = opened.checkpoint.record.indices_by_subject
    subjects = {}
    for subject, of in scores.subjects.items():
        p_V, ceiling = nulls[subject].p_values(), ceilings.get(subject)
        subjects[subject] = OfSubject(
            np.asarray(indices.get(subject, np.arange(len(of.pearson_V)))),
            of.pearson_V,
            of.r2_V,
            p_V,
            adjusted_p(p_V),
            None if ceiling is None else ceiling.ceiling_V,
            None if ceiling is None else ceiling.normalised(of.pearson_V),
        )
    mean = mean_r([scan_influence(each) for each in rows])
    return Evaluation(
        name,
        opened,
        judged_of(opened, scores, readings=1),
        subjects,
        interval,
        mean_null(list(nulls.values())),
        next((each.kind for each in ceilings.values()), ""),
        mean,
        beside,
        None if beside is None else _pair(mean, beside.mean, least_trs, job),
    )


def _pair(one: MeanR, other: MeanR, least_trs: int, job: EvaluateJob) -> PairedTest:
    (test,) = paired_tests([(one, other)], least_trs, job.permutations, job.seed)
    return test


def _scores(rows: list[ScanRows], opened: OpenedRun) -> HeldOutScores:
    sums = ScanSums([each.subject for each in rows], len(opened.valid_V))
    for index, each in enumerate(rows):
        sums.add(index, each.prediction_TV, each.bold_TV)
    return sums.compute(opened.valid_V)


def _nulls(
    rows: list[ScanRows], least_trs: int, job: EvaluateJob, report: Callable[[float], None]
) -> dict[str, Null]:
    """Return the null of each subject; the films of all are shifted alike."""
    films, n_trs = [each.stimulus for each in rows], [len(each.tr_T) for each in rows]
    shifts_SP = draw_shifts(films, n_trs, least_trs, job.permutations, job.seed)
    nulls = {}
    for subject in dict.fromkeys(each.subject for each in rows):
        mine = [index for index, each in enumerate(rows) if each.subject == subject]
        predictions, bold = (
            [getattr(rows[index], name) for index in mine] for name in ("prediction_TV", "bold_TV")
        )
        nulls[subject] = shift_null(predictions, bold, shifts_SP[mine], report)
    return nulls


def find_ceilings(opened: OpenedRun, wanted: str, least_trs: int, seed: int) -> dict[str, Ceiling]:
    """Return the noise ceiling of each subject's units; empty where none is wanted.

    Parameters
    ----------
    opened : OpenedRun
        Whose test TRs it is of.
    wanted : str
        none; repeats or split_half, from scans of the same test TRs; or an .npy file, (V,), for
        all subjects.
    least_trs, seed : int
        Of the null that says which ceilings are within noise.

    Raises
    ------
    InputError
        If there are no repeats, or the file is of other units.
    """
    if wanted == "none":
        return {}
    n_units = len(opened.valid_V)
    if wanted.endswith(".npy"):
        return _known(wanted, n_units, opened)
    find = {"repeats": explainable_ceiling, "split_half": split_half_ceiling}[wanted]
    scans, dataset = judged_scans(opened), opened.data.dataset
    ceilings = {}
    for subject in dict.fromkeys(scan.subject for scan in scans):
        films = dict.fromkeys(scan.stimulus for scan in scans if scan.subject == subject)
        of_films = [
            [s for s in scans if (s.subject, s.stimulus) == (subject, film)] for film in films
        ]
        n = min(map(len, of_films))
        if n < 2:
            raise InputError(
                f"--ceiling {wanted}: subject {subject} saw the test TRs of a film once, where two "
                "or more repeats are needed; give an .npy file, or none"
            )
        parts = []
        for repeats in of_films:
            for span in opened.at_row_groups(opened.data.split.test):
                if span.stimulus == repeats[0].stimulus:
                    usable = [dataset.usable_trs(s)[span.start : span.stop] for s in repeats[:n]]
                    common_T = np.logical_and.reduce(usable)
                    bold = [read_bold(opened.data, span, s)[common_T] for s in repeats[:n]]
                    parts.append(np.stack(bold).astype(np.float32))
        ceilings[subject] = find(torch.from_numpy(np.concatenate(parts, axis=1)), least_trs, seed)
    return ceilings


def _known(path: str, n_units: int, opened: OpenedRun) -> dict[str, Ceiling]:
    try:
        ceiling_V = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--ceiling {path}: not a readable .npy file: {error}") from error
    if ceiling_V.shape != (n_units,):
        raise InputError(
            f"--ceiling {path}: found shape {ceiling_V.shape}; the run predicts {n_units} units, "
            f"so ({n_units},) is accepted"
        )
    if not ((ceiling_V >= 0) & (ceiling_V <= 1))[np.isfinite(ceiling_V)].all():
        raise InputError(
            f"--ceiling {path}: found {np.nanmin(ceiling_V):g} to {np.nanmax(ceiling_V):g}; "
            "ceilings of r, 0 to 1, are accepted"
        )
    known = Ceiling(ceiling_V.astype(np.float64), np.zeros(n_units), f"the file {path}")
    return {scan.subject: known for scan in judged_scans(opened)}
