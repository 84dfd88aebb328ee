"""Runs that were read, compared: ranked in groups, and the best of them paired."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from giblet_ray.checkpoint.seeds import Seeds
from giblet_ray.comparison.heldout import TrainedRun
from giblet_ray.comparison.importance import setting_importance
from giblet_ray.comparison.pairs import (
    MAX_RUNS,
    PairSettings,
    Report,
    intervals_of,
    open_best,
    pair_all,
)
from giblet_ray.comparison.result import ComparedGroup, Comparison, Pair
from giblet_ray.comparison.runs import (
    ComparedRun,
    RunGroup,
    by_settings,
    differing_grouping,
    group_runs,
    run_labels,
    settings_that_differ,
)
from giblet_ray.comparison.scores import read_voxel_pearson
from giblet_ray.config import CompareJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.evaluation.interval import Interval
from giblet_ray.evaluation.score import VAL_PEARSON, Score

_MOST_SEEDS = 3
"""Settings whose seeds are noted."""


def compare_runs(
    job: CompareJob,
    experiment: str,
    runs: Sequence[ComparedRun],
    chosen: tuple[ComparedRun, ComparedRun] | None,
    report: Report,
) -> Comparison:
    """Find everything that a comparison shows.

    Parameters
    ----------
    job : CompareJob
        Validated settings.
    experiment : str
        Where the runs are from.
    runs : sequence of ComparedRun
        All of them.
    chosen : tuple of two ComparedRun, or None
        The pair that was asked for; by default, the best two of the largest group.
    report : callable
        Is told the stage and the share of it that is done.

    Raises
    ------
    InputError
        If the two runs that were asked for cannot be paired.
    """
    settings = PairSettings(
        job.dataset,
        job.permutations,
        job.error_seconds,
        job.seed,
        cache(Dataset.open),
        job.packages,
    )
    groups = group_runs(runs, job.metric)
    notes = _notes_on_groups(groups)
    compared = []
    for group in groups:
        result, more = _compare_group(group, runs, job.metric, settings, report)
        compared.append(result)
        notes += more
    pair: Pair | None = None
    if chosen is not None:
        pair, more = _pair_of(chosen, settings, report)
        notes += more
    elif len(groups[0].ranked) > 1:
        pair, more = _best_pair(groups[0], compared[0], settings, report)
        notes += more
    notes += settings.notes
    if pair is not None and pair.warning:
        notes.append(pair.warning)
    return Comparison(
        experiment,
        job.tracking.uri,
        job.metric,
        compared,
        run_labels(runs),
        pair,
        list(dict.fromkeys(notes)),
    )


def _compare_group(
    group: RunGroup,
    runs: Sequence[ComparedRun],
    metric: str,
    settings: PairSettings,
    report: Report,
) -> tuple[ComparedGroup, list[str]]:
    """Find everything about one group; return notes besides."""
    notes: list[str] = []
    pearson: dict[str, NDArray[np.float64]] = {}
    unread: list[str] = []
    for run in group.ranked[:MAX_RUNS]:
        try:
            pearson[run.id] = read_voxel_pearson(run.folder)
        except InputError as error:
            unread.append(str(error))
    if unread:
        notes.append(f"{len(unread)} of the best runs are not drawn voxel by voxel: {unread[0]}")
    intervals: dict[str, Interval] = {}
    opened: list[TrainedRun] = []
    if metric == VAL_PEARSON or len(group.ranked) > 2:
        opened, reasons = open_best(group.ranked, settings)
        if reasons:
            notes.append(
                f"{len(reasons)} of the best runs have neither interval nor paired differences: "
                f"{reasons[0]}"
            )
    if metric == VAL_PEARSON:
        intervals, reasons = intervals_of(opened, settings, report)
        notes += reasons
        if len(group.ranked) > len(opened) == MAX_RUNS:
            notes.append(f"intervals are those of the best {MAX_RUNS} runs")
    else:
        notes.append(f"{metric} has no interval: the mean r alone ({VAL_PEARSON}) has")
    notes += notes_on_seeds(group, run_labels(runs), metric)
    differing = settings_that_differ(runs)
    importance = setting_importance(
        group.ranked, differing, metric, settings.seed, partial(report, "importance of settings")
    )
    differing.sort(key=lambda name: (-importance.shares.get(name, 0.0), name))
    pairs: list[Pair] = []
    if len(opened) > 2:
        pairs, more = _noted(lambda: pair_all(opened, settings, report))
        notes += more
    return ComparedGroup(group, differing, importance, intervals, pearson, pairs), notes


def _pair_of(
    chosen: tuple[ComparedRun, ComparedRun], settings: PairSettings, report: Report
) -> tuple[Pair, list[str]]:
    """Pair the two runs that were asked for."""
    try:
        trained = [settings.open(run) for run in chosen]
        (pair,), notes = pair_all(trained, settings, report)
    except InputError as error:
        raise InputError(f"--pair {','.join(run.name for run in chosen)}: {error}") from error
    return pair, notes


def _best_pair(
    group: RunGroup, compared: ComparedGroup, settings: PairSettings, report: Report
) -> tuple[Pair | None, list[str]]:
    """Pair the best run with the second best, unless that has been done."""
    for pair in compared.pairs:
        if (pair.a, pair.b) == group.ranked[:2]:
            return pair, []
    opened, reasons = open_best(group.ranked[:2], settings)
    if len(opened) < 2:
        return None, [f"no paired difference of the best two runs: {reasons[0]}"]
    pairs, notes = _noted(lambda: pair_all(opened, settings, report))
    return (pairs[0] if pairs else None), notes


def _noted(pair: Callable[[], tuple[list[Pair], list[str]]]) -> tuple[list[Pair], list[str]]:
    """Pair runs that nobody asked for by name: what cannot be paired is noted."""
    try:
        return pair()
    except InputError as error:
        return [], [f"no paired differences: {error}"]


def notes_on_seeds(group: RunGroup, labels: Mapping[str, str], metric: str) -> list[str]:
    """Say what settings reach of which several seeds were trained to their end, the best first."""
    reached = [
        (Seeds(score=metric, scores=tuple(run.value(metric) or 0.0 for run in same)), same)
        for same in by_settings(run for run in group.ranked if run.is_done)
        if len(same) > 1
    ]
    best = Score(metric).ranked(reached, lambda each: each[0].mean)[:_MOST_SEEDS]
    return [
        f"{', '.join(labels[run.id] for run in same)} differ in their seed alone: {metric} "
        f"{seeds.in_words()}"
        for seeds, same in best
    ]


def _notes_on_groups(groups: Sequence[RunGroup]) -> list[str]:
    if len(groups) == 1:
        return []
    differ = ", ".join(differing_grouping(groups))
    return [
        f"ranked in {len(groups)} groups, since scores on different data, TRs or voxels, and other "
        f"losses, cannot be ranked together: they differ in {differ}"
    ]
