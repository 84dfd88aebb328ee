"""Predictions of several runs, made again on the validation TRs that all of them have.

::

    BOLD TR          ...  40 41 42 43 44 45 46 47 48 49 50 51 ...
    a                     |#####################|
    b                           |#####################|
    common                      |###############|                  where the two are compared
    blocks                      |-------|-------|                  20 s each, or more

All subjects see one stimulus, and the model predicts the same for each of them: a block is a
stretch of a stimulus, with the BOLD of all subjects who saw it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.errors import InputError
from giblet_ray.evaluation.paired import BlockSums
from giblet_ray.judge.opened import OpenedRun, open_run, read_bold


@dataclass(frozen=True)
class TrainedRun(OpenedRun):
    """A run whose best checkpoint and data set are at hand.

    Attributes
    ----------
    run : ComparedRun
        As MLflow has it.
    """

    run: ComparedRun

    @classmethod
    def open(
        cls,
        run: ComparedRun,
        location: str | None = None,
        open_dataset: Callable[[str], Dataset] = Dataset.open,
        packages: Iterable[str] = (),
    ) -> TrainedRun:
        """Find a run's checkpoint and data set; see :func:`giblet_ray.judge.opened.open_run`."""
        opened = open_run(run.folder, location, open_dataset, packages)
        return cls(**vars(opened), run=run)

    @cached_property
    def validation(self) -> dict[str, NDArray[np.bool_]]:
        """Whether each BOLD TR of a stimulus chose the run's epoch, by stimulus."""
        masks: dict[str, NDArray[np.bool_]] = {}
        for span in self.data.split.val:
            n_trs = self.data.dataset.stimuli[span.stimulus].n_trs
            mask = masks.setdefault(span.stimulus, np.zeros(n_trs, bool))
            mask[span.start : span.stop] = True
        return masks


@dataclass(frozen=True)
class CommonTrs:
    """BOLD TRs that several runs hold out, and how BOLD is z-scored for all of them.

    Attributes
    ----------
    blocks : tuple of Span
        Blocks of BOLD TRs, in ascending order within each stimulus.
    scans : tuple of ScanKey
        Rows of the normalisation.
    mean_SV, std_SV : ndarray
        Means over the trainings of theirs: where their splits and lags are the same, these are
        the numbers that each was trained with.
    valid_V : ndarray
        Voxels that are valid in each.
    block_seconds : float
        Least length of a block, unless a stretch of validation TRs is shorter.
    """

    blocks: tuple[Span, ...]
    scans: tuple[ScanKey, ...]
    mean_SV: NDArray[np.float32]
    std_SV: NDArray[np.float32]
    valid_V: NDArray[np.bool_]
    block_seconds: float

    @property
    def n_trs(self) -> int:
        """BOLD TRs of stimuli, counted once for all subjects."""
        return sum(map(len, self.blocks))


def common_trs(trained: Sequence[TrainedRun], block_seconds: float) -> CommonTrs:
    """Find what several runs hold out, and cut it into blocks.

    Raises
    ------
    InputError
        If they were trained on different data sets, predict different voxels, or no TR is held out
        by all of them.
    """
    first = trained[0]
    for other in trained[1:]:
        names = f"runs {first.run.name} and {other.run.name}"
        if other.data.dataset.manifest.checksum != first.data.dataset.manifest.checksum:
            raise InputError(f"{names} were trained on different data sets: no TR is common")
        if not _same_voxels(first.data.selection, other.data.selection):
            raise InputError(f"{names} predict different voxels (data.voxels): none can be paired")
    scans = tuple(scan for scan in first.scans if all(scan in each.scans for each in trained))
    block_trs = math.ceil(block_seconds / first.data.dataset.manifest.tr_seconds - 1e-9)
    blocks: list[Span] = []
    for stimulus in dict.fromkeys(scan.stimulus for scan in scans):
        masks = [each.validation[stimulus] for each in trained if stimulus in each.validation]
        if len(masks) < len(trained):
            continue
        for start, stop in _stretches(np.logical_and.reduce(masks)):
            blocks += _cut(stimulus, start, stop, block_trs)
    scans = tuple(scan for scan in scans if any(scan.stimulus == span.stimulus for span in blocks))
    if not blocks or not scans:
        names = ", ".join(each.run.name for each in trained)
        raise InputError(f"runs {names}: no validation TR is common to all of them")
    rows = [[each.scans.index(scan) for scan in scans] for each in trained]
    return CommonTrs(
        tuple(blocks),
        scans,
        np.mean([t.mean_SV[r] for t, r in zip(trained, rows, strict=True)], axis=0, dtype="f8"),
        np.mean([t.std_SV[r] for t, r in zip(trained, rows, strict=True)], axis=0, dtype="f8"),
        np.logical_and.reduce([each.valid_V for each in trained]),
        block_seconds,
    )


def block_sums(
    trained: TrainedRun, common: CommonTrs, report: Callable[[float], None] = lambda done: None
) -> BlockSums:
    """Predict the common TRs from a run's best checkpoint, and add up each block.

    Reads, predicts and adds up a row group of the data set at a time, for one subject after
    another; what is held is one model, one row group of one subject, and the sums.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = Encoder.load(trained.checkpoint.location, device=device, packages=trained.packages)
    dataset = trained.data.dataset
    sums = BlockSums(len(common.blocks), len(common.valid_V))
    chunks = _chunks(common.blocks, dataset.manifest.row_group_trs)
    for index, (bold_span, block_N) in enumerate(chunks):
        predicted: dict[int, NDArray[np.float32]] = {}
        for row, scan in enumerate(common.scans):
            if scan.stimulus == bold_span.stimulus:
                subject = encoder.subject_index(scan.subject)
                if subject not in predicted:
                    predicted[subject] = encoder.predict_bold(dataset, bold_span, subject)
                bold_NV = read_bold(trained.data, bold_span, scan)
                scored_NV = (bold_NV - common.mean_SV[row]) / common.std_SV[row]
                target_NV = np.where(common.valid_V, scored_NV, 0.0)
                usable_N = dataset.usable_trs(scan)[bold_span.start : bold_span.stop]
                sums.add(block_N[usable_N], predicted[subject][usable_N], target_NV[usable_N])
        report((index + 1) / len(chunks))
    return sums


def _same_voxels(a: Selection, b: Selection) -> bool:
    shared = a.units.keys() & b.units.keys()
    return a.units.keys() == b.units.keys() and all(
        np.array_equal(a.units[subject], b.units[subject]) for subject in shared
    )


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where a mask is true, as [start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _cut(stimulus: str, start: int, stop: int, block_trs: int) -> list[Span]:
    """Cut a stretch into as many blocks of at least `block_trs` TRs as there are, about equal.

    A shorter stretch is one block: the gap around it parts it from the others.
    """
    n = max(1, (stop - start) // block_trs)
    edges = [start + (stop - start) * index // n for index in range(n + 1)]
    return [Span(stimulus, a, b) for a, b in itertools.pairwise(edges)]


def _chunks(blocks: Sequence[Span], row_group_trs: int) -> list[tuple[Span, NDArray[np.int64]]]:
    """Cut blocks at the edges of row groups, and join what lies side by side in one.

    Returns spans of BOLD TRs, each with the block of every TR.
    """
    chunks: list[tuple[Span, NDArray[np.int64]]] = []
    for block, span in enumerate(blocks):
        start = span.start
        while start < span.stop:
            stop = min(span.stop, (start // row_group_trs + 1) * row_group_trs)
            trs = np.full(stop - start, block)
            last = chunks[-1][0] if chunks else None
            if (
                last is not None
                and (last.stimulus, last.stop) == (span.stimulus, start)
                and start % row_group_trs
            ):
                joined = np.concatenate([chunks[-1][1], trs])
                chunks[-1] = (Span(span.stimulus, last.start, stop), joined)
            else:
                chunks.append((Span(span.stimulus, start, stop), trs))
            start = stop
    return chunks
