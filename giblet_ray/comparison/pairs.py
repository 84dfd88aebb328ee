"""Paired tests between runs: of the best few in each group, and of the two that are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from giblet_ray.comparison.heldout import CommonTrs, TrainedRun, block_sums, common_trs
from giblet_ray.comparison.result import Pair
from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.evaluation.paired import paired_test
from giblet_ray.evaluation.score import VAL_PEARSON

MAX_RUNS = 6
"""Of each group, so many of the best runs are compared with one another."""
_MAX_TRIES = 2 * MAX_RUNS
_AGREES = 0.005
"""A score that is computed again may differ by so much: it was taken in bf16, perhaps."""

Report = Callable[[str, float], None]


@dataclass(frozen=True)
class PairSettings:
    """How runs are paired; see :class:`giblet_ray.config.CompareJob`.

    ``open_dataset`` opens the data set at a path or URI, each one once.
    """

    dataset: str | None
    permutations: int
    block_seconds: float
    seed: int
    open_dataset: Callable[[str], Dataset]
    packages: tuple[str, ...]

    def open(self, run: ComparedRun) -> TrainedRun:
        """Find a run's checkpoint and data set; see :meth:`TrainedRun.open`."""
        return TrainedRun.open(run, self.dataset, self.open_dataset, self.packages)


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
    common = common_trs(trained, settings.block_seconds)
    sums = [
        block_sums(each, common, _stage(report, "predicting validation TRs", index, len(trained)))
        for index, each in enumerate(trained)
    ]
    pairs = []
    notes: dict[str, str] = {}
    chosen = list(itertools.combinations(range(len(trained)), 2))
    for index, (i, j) in enumerate(chosen):
        test = paired_test(
            sums[i],
            sums[j],
            common.valid_V,
            settings.permutations,
            settings.seed,
            _stage(report, "permuting blocks of TRs", index, len(chosen)),
        )
        a, b = trained[i], trained[j]
        pairs.append(Pair(a.run, b.run, test, common.n_trs, settings.block_seconds))
        notes.update(_disagreements(((a, test.pearson_a_V), (b, test.pearson_b_V)), common))
    return pairs, list(notes.values())


def _stage(report: Report, name: str, index: int, n: int) -> Callable[[float], None]:
    """Report the share of the index-th of n equal parts as one of the whole."""
    return lambda done: report(name, (index + done) / n)


def _disagreements(
    scored: Sequence[tuple[TrainedRun, np.ndarray]], common: CommonTrs
) -> dict[str, str]:
    """Say where all of a run's validation TRs give another score than its training recorded."""
    notes = {}
    for trained, pearson_V in scored:
        n_trs = sum(int(mask.sum()) for mask in trained.validation.values())
        recorded = trained.run.value(VAL_PEARSON)
        if n_trs != common.n_trs or len(common.scans) != len(trained.scans) or recorded is None:
            continue
        again = float(np.nanmean(pearson_V))
        if abs(again - recorded) > _AGREES:
            notes[trained.run.id] = (
                f"run {trained.run.name}: its best checkpoint scores {again:.4f} on its validation "
                f"TRs, its training recorded {recorded:.4f}: weights or data have changed since"
            )
    return notes
