"""Runs on their test TRs: scores, nulls, intervals, ceilings, the group, ridge and parts.

Shapes: V units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.seeds import read_seeds
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.splits import response_trs
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.block_bootstrap import bootstrap_mean_r
from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r
from giblet_ray.evaluation.null import Null, draw_shifts, mean_null, shift_null
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.evaluation.unit_scores import HeldOutScores, UnitScores
from giblet_ray.judge.ceilings import Ceilings, plan_ceilings
from giblet_ray.judge.courses import unit_courses
from giblet_ray.judge.evaluation import Baseline, Evaluation, OfSubject, Partition
from giblet_ray.judge.folds import (
    Folds,
    Report,
    Rows,
    check_folds,
    gathered_rows,
    score_rows,
    valid_units,
)
from giblet_ray.judge.group import score_group
from giblet_ray.judge.judge import judged_of, tally_rows
from giblet_ray.judge.members import MemberScore, is_stack, rows_of_members, score_members
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.partition import Fit, from_product, from_refits, plan_partition
from giblet_ray.judge.permuted import from_permuted
from giblet_ray.judge.regions import read_atlas
from giblet_ray.judge.responses import responses_of
from giblet_ray.judge.run_name import name_of
from giblet_ray.progress import Progress, Show


def evaluate_run(
    locations: Sequence[str],
    job: EvaluateJob,
    show: Show,
    ridge: Fit | None,
    retrain: Fit | None = None,
) -> Evaluation:
    """Evaluate the best checkpoint of a run, or of each of its folds, on its test TRs.

    Parameters
    ----------
    locations : sequence of str
        Folder or URI of a run or checkpoint, or of each fold.
    job : EvaluateJob
        How.
    show : Show
    ridge : callable or None
        Gives ridge on the same data as a run, on some of its parts.
    retrain : callable, optional
        Gives the run's model, trained anew on some of its parts.

    Raises
    ------
    InputError
        If something cannot be read, or the test TRs are too few to say anything.
    """
    folds = [open_run(location, job.dataset, packages=job.packages) for location in locations]
    check_folds(folds)
    record, dataset = folds[0].checkpoint.record, folds[0].data.dataset
    name, units = name_of(record, len(folds)), folds[0].data.units
    is_shared = folds[0].data.units_are_shared
    scans = list(dict.fromkeys(scan for fold in folds for scan in fold.scans_in("test")))
    least_trs = response_trs(dataset.manifest.tr_seconds)
    # First, so that what cannot be had is told before anything is predicted.
    n_shared = max(units.values()) if is_shared else None
    find_ceilings = plan_ceilings(job.ceiling, scans, n_shared, least_trs, job.seed)
    regions = read_atlas(folds[0].spaces, job.atlas, job.atlas_names)
    if job.partition != "none":
        show(f"partition: {plan_partition(job.partition, folds)}")
    with Progress(show) as progress:

        def report(doing: str) -> Report:
            return lambda done: setattr(progress, "doing", f"{name}: {doing} {done:.0%}")

        alone: tuple[MeanR, ...] = ()
        if is_stack(folds[0]):
            rows, alone = rows_of_members(folds[0], report("predicting test TRs with each member"))
        else:
            rows = gathered_rows(folds, report("predicting test TRs"))
        each = list(rows.values())
        scores, own = tally_rows(rows, folds)
        nulls = _nulls(each, least_trs, job, report("chance"))
        how_many = (least_trs, job.resamples, job.seed, report("resampling blocks of TRs"))
        interval = bootstrap_mean_r(each, *how_many, is_shared)
        mean = mean_r(each, is_shared)
        members: tuple[MemberScore, ...] = ()
        if alone:
            how_much = (least_trs, job.permutations, job.seed)
            members = score_members(folds[0], mean, alone, *how_much)
    ceilings = find_ceilings(rows)
    parts, is_ridge = tuple(record.parts), record.config["model"]["kind"] == "ridge"
    baseline, ridges, of_ridges = None, folds, scores.subjects
    if ridge is not None and (not is_ridge or job.partition == "subsets"):
        ridges = [ridge(fold, parts) for fold in folds]
        ridge_rows = gathered_rows(ridges)
        of_ridges = score_rows(ridge_rows, valid_units(ridges)).subjects
        if not is_ridge:
            baseline = _beside(mean, ridges, ridge_rows, of_ridges, least_trs, job)
    partition: Partition | None = None
    if job.partition == "permuted":
        with Progress(show) as progress:
            how = (interval.block_trs, job.seed, report("permuting blocks of a part's TRs"))
            partition = from_permuted(folds, rows, scores.subjects, *how)
    elif job.partition == "product":
        partition = from_product(ridges)
    elif job.partition == "subsets" and ridge is not None:
        partition = from_refits("subsets", folds, of_ridges, ridge)
    elif job.partition == "retrained" and retrain is not None:
        partition = from_refits("retrained", folds, scores.subjects, retrain)
    indices = record.indices_by_subject
    return Evaluation(
        name=name,
        folds=tuple(folds),
        judged=_judged(folds, scores, own),
        subjects={
            subject: _subject(of, nulls[subject], ceilings, subject, indices.get(subject))
            for subject, of in scores.subjects.items()
        },
        interval=interval,
        null=mean_null(list(nulls.values()), is_shared),
        ceiling=ceilings.words,
        mean=mean,
        courses=unit_courses(each, {name: of.pearson_V for name, of in scores.subjects.items()}),
        baseline=baseline,
        group=score_group(rows) if is_shared else None,
        partition=partition,
        members=members,
        responses=responses_of(folds[0], scores.subjects),
        regions=regions,
        seeds=read_seeds(Storage.at(folds[0].checkpoint.run_folder), ""),
    )


def _subject(
    scores: UnitScores, null: Null, ceilings: Ceilings, subject: str, indices_V: np.ndarray | None
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


def _judged(folds: Folds, scores: HeldOutScores, own: dict[str, float]) -> Judged:
    judged = judged_of(folds[0], scores, own, readings=1)
    return judged if len(folds) == 1 else judged.model_copy(update={"name": "test_folds"})


def _beside(
    mean: MeanR,
    ridges: Folds,
    rows: Rows,
    scores: Mapping[str, UnitScores],
    least_trs: int,
    job: EvaluateJob,
) -> Baseline:
    """Return what is shown of ridge, its test TRs and its scores, beside a mean r."""
    of_ridge = mean_r(list(rows.values()), ridges[0].data.units_are_shared)
    (test,) = paired_tests([(mean, of_ridge)], least_trs, job.permutations, job.seed)
    units = {subject: of.pearson_V for subject, of in scores.items()}
    names = [each.checkpoint.record.config["name"] for each in ridges]
    model = ridges[0].checkpoint.record.config["model"]
    return Baseline(", ".join(names), model, of_ridge, units, test)


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
