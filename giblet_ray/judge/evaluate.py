"""Runs on their test TRs: scores, nulls, intervals, ceilings, the group, and ridge beside them.

Shapes: V units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.config import HRF_SECONDS
from giblet_ray.dataset.splits import whole_trs
from giblet_ray.evaluation.block_bootstrap import bootstrap_mean_r
from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r, scan_influence
from giblet_ray.evaluation.null import Null, draw_shifts, mean_null, shift_null
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.evaluation.unit_scores import HeldOutScores, UnitScores
from giblet_ray.judge.ceilings import Ceilings, plan_ceilings
from giblet_ray.judge.evaluation import Baseline, Evaluation, OfSubject
from giblet_ray.judge.group import score_group
from giblet_ray.judge.judge import TallyOfTest, judged_of
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.rows import all_rows, judged_scans
from giblet_ray.progress import Progress


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
    dataset, scans, n_units = opened.data.dataset, judged_scans(opened), len(opened.valid_V)
    least_trs = whole_trs(HRF_SECONDS, dataset.manifest.tr_seconds)
    # First, so that a ceiling which cannot be had is told before anything is predicted.
    find_ceilings = plan_ceilings(job.ceiling, scans, n_units, least_trs, job.seed)
    with Progress(show) as progress:

        def report(doing: str) -> Callable[[float], None]:
            return lambda done: setattr(progress, "doing", f"{name}: {doing} {done:.0%}")

        rows = all_rows(opened, report("predicting test TRs"))
        each = list(rows.values())
        scores, own = _scores(each, opened)
        nulls = _nulls(each, least_trs, job, report("chance"))
        interval = bootstrap_mean_r(
            each, least_trs, job.resamples, job.seed, report("resampling blocks of TRs")
        )
    mean, ceilings = mean_r([scan_influence(scan) for scan in each]), find_ceilings(rows)
    baseline = None
    if ridge is not None and opened.checkpoint.record.config["model"]["kind"] != "ridge":
        baseline = _beside(mean, ridge(opened), least_trs, job)
    indices = opened.checkpoint.record.indices_by_subject
    return Evaluation(
        name,
        opened,
        judged_of(opened, scores, own, readings=1),
        {
            subject: _subject(of, nulls[subject], ceilings, subject, indices.get(subject))
            for subject, of in scores.subjects.items()
        },
        interval,
        mean_null(list(nulls.values())),
        ceilings.words,
        mean,
        baseline,
        score_group(rows, dataset),
    )


def _subject(
    scores: UnitScores,
    null: Null,
    ceilings: Ceilings,
    subject: str,
    indices_V: np.ndarray | None,
) -> OfSubject:
    p_V, ceiling = null.p_values(), ceilings.own.get(subject)
    low_V, high_V = ceilings.shared.get(subject, (None, None))
    return OfSubject(
        np.arange(len(p_V)) if indices_V is None else np.asarray(indices_V),
        scores.pearson_V,
        scores.r2_V,
        p_V,
        adjusted_p(p_V),
        None if ceiling is None else ceiling.ceiling_V,
        None if ceiling is None else ceiling.normalised(scores.pearson_V),
        low_V,
        high_V,
    )


def _beside(mean: MeanR, location: str, least_trs: int, job: EvaluateJob) -> Baseline:
    """Return what is shown of a ridge run beside a mean r."""
    opened = open_run(location, job.dataset)
    rows = list(all_rows(opened).values())
    of_ridge = mean_r([scan_influence(scan) for scan in rows])
    (test,) = paired_tests([(mean, of_ridge)], least_trs, job.permutations, job.seed)
    units = {name: of.pearson_V for name, of in _scores(rows, opened)[0].subjects.items()}
    return Baseline(opened.checkpoint.record.config["name"], of_ridge, units, test)


def _scores(rows: Sequence[ScanRows], opened: OpenedRun) -> tuple[HeldOutScores, dict[str, float]]:
    scores = TallyOfTest(opened, [each.subject for each in rows])
    for index, each in enumerate(rows):
        scores.add(index, each.tr_T, each.prediction_TV, each.bold_TV)
    return scores.compute()


def _nulls(
    rows: Sequence[ScanRows], least_trs: int, job: EvaluateJob, report: Callable[[float], None]
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
