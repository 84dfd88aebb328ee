"""Paired tests between runs: of the best few in each group, and of the two that are asked for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from giblet_ray.comparison.heldout import CommonTrs, ScoredRun, TrainedRun, common_trs, score_run
from giblet_ray.comparison.kept import identity, keep, read_kept
from giblet_ray.comparison.result import Pair
from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import whole_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.interval import Interval, mean_interval
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.evaluation.score import VAL_PEARSON
from giblet_ray.judge.members import is_stack

MAX_RUNS = 6
"""Of each group, so many of the best runs are compared with one another."""
_MAX_TRIES = 2 * MAX_RUNS
_AGREES = 0.005
"""A score that is computed again may differ by so much: it was taken in bf16, perhaps."""

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class PairSettings:
    """How runs are paired; see :class:`giblet_ray.config.CompareJob`.

    ``open_dataset`` opens the data set at a path or URI, each one once; ``notes`` gathers what a
    reader should know of how runs were scored; ``unkept`` has the scores that a run's folder did
    not take, by the run's id and what they are of.
    """

    dataset: str | None
    permutations: int
    error_seconds: float
    seed: int
    open_dataset: Callable[[str], Dataset]
    packages: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    unkept: dict[tuple[str, str], ScoredRun] = field(default_factory=dict)

    def open(self, run: ComparedRun) -> TrainedRun:
        """Find a run's checkpoint and data set; see :meth:`TrainedRun.open`."""
        return TrainedRun.open(run, self.dataset, self.open_dataset, self.packages)

    def least_trs(self, trained: TrainedRun) -> int:
        """Return how many TRs errors last at least."""
        return whole_trs(self.error_seconds, trained.data.dataset.manifest.tr_seconds)

    def score(
        self, trained: TrainedRun, common: CommonTrs, report: Callable[[float], None]
    ) -> ScoredRun:
        """Score a run on common TRs, once: scores of all its TRs are kept in the run's folder.

        Raises
        ------
        InputError
            If weights or data cannot be read, or a scan cannot be scored.
        """
        of = trained.run.id, json.dumps(identity(trained, common))
        scored = self.unkept.get(of) or read_kept(trained, common)
        if scored is None:
            scored = score_run(trained, common, report)
            if common.are_all_of(trained) and (refused := keep(trained, common, scored)):
                self.notes.append(refused)
                self.unkept[of] = scored
        return scored


def open_best(
    runs: Sequence[ComparedRun], settings: PairSettings
) -> tuple[list[TrainedRun], list[str]]:
    """Return the best few runs whose checkpoint and data set can be read, and why others cannot.

    Parameters
    ----------
    runs : sequence of ComparedRun
        Best first.
    settings : PairSettings
        Where the data set is.
    """
    opened: list[TrainedRun] = []
    reasons: list[str] = []
    for run in runs[:_MAX_TRIES]:
        if len(opened) == MAX_RUNS:
            break
        try:
            opened.append(settings.open(run))
        except InputError as error:
            reasons.append(str(error))
    return opened, reasons


def intervals_of(
    trained: Sequence[TrainedRun], settings: PairSettings, report: Report
) -> tuple[dict[str, Interval], list[str]]:
    """Return each run's interval of the mean r over its own validation TRs, by run id.

    A stack has none: its score is with weights found without each TR, and what each TR adds is
    known of weights that were found on all of them. Notes say whose cannot be had, and why, and
    whose is not about the score that was recorded.
    """
    intervals, reasons = {}, []
    for index, each in enumerate(trained):
        stage = _stage(report, "predicting validation TRs", index, len(trained))
        try:
            common = common_trs([each])
            scored = settings.score(each, common, stage)
        except InputError as error:
            reasons.append(f"run {each.run.name} has no interval: {error}")
            continue
        reasons += _disagreements([each], [scored], common)
        if not is_stack(each):
            intervals[each.run.id] = mean_interval(scored.mean, settings.least_trs(each))
    return intervals, reasons


def pair_all(
    trained: Sequence[TrainedRun], settings: PairSettings, report: Report
) -> tuple[list[Pair], list[str]]:
    """Test each two of some runs on the TRs that all of them hold out.

    Returns the pairs, and notes on scores that were not found again.

    Raises
    ------
    InputError
        If they have no TR in common, or one of them cannot predict.
    """
    common = common_trs(trained)
    scored = [
        settings.score(
            each, common, _stage(report, "predicting validation TRs", index, len(trained))
        )
        for index, each in enumerate(trained)
    ]
    chosen = list(itertools.combinations(range(len(trained)), 2))
    tests = paired_tests(
        [(scored[i].mean, scored[j].mean) for i, j in chosen],
        settings.least_trs(trained[0]),
        settings.permutations,
        settings.seed,
    )
    pairs = [
        Pair(trained[i].run, trained[j].run, test, scored[i], scored[j])
        for (i, j), test in zip(chosen, tests, strict=True)
    ]
    return pairs, _disagreements(trained, scored, common)


def _stage(report: Report, name: str, index: int, n: int) -> Callable[[float], None]:
    """Report the share of the index-th of n equal parts as one of the whole."""
    return lambda done: report(name, (index + done) / n)


def _disagreements(
    trained: Sequence[TrainedRun], scored: Sequence[ScoredRun], common: CommonTrs
) -> list[str]:
    """Say where all of a run's validation TRs give another score than was recorded, and why."""
    notes = []
    for each, scores in zip(trained, scored, strict=True):
        recorded = each.run.value(VAL_PEARSON)
        if recorded is None or not common.are_all_of(each):
            continue
        again = scores.mean.value
        if is_stack(each):
            notes.append(
                f"run {each.run.name} is a stack: its weights were found on these TRs, where it "
                f"scores {again:.4f}, as in paired differences; with weights found without "
                f"each TR, {recorded:.4f}, which has no interval"
            )
        elif abs(again - recorded) > _AGREES:
            notes.append(
                f"run {each.run.name}: its best checkpoint scores {again:.4f} on its validation "
                f"TRs, its training recorded {recorded:.4f}: weights or data have changed since; "
                f"its interval and paired differences are about {again:.4f}"
            )
    return notes
