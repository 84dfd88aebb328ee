"""A few row groups that stand for a data set: enough windows for a batch, of every subject."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch, Gathered, Prefetching
from giblet_ray.dataset.normalise import Normalisation, UsedRows
from giblet_ray.dataset.reader import Selection, Span
from giblet_ray.dataset.rows import StreamedRows, block_views
from giblet_ray.dataset.splits import Use
from giblet_ray.dataset.view import DataView
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType

_LEAST_TRS = 8
"""Training TRs of a scan without which a row group's windows of it are left out: from one TR, every
unit is constant."""
_MOST_BYTES = 512 * 2**20
"""Beyond so much, a sample takes no more row groups; its windows are then used again."""


@dataclass(frozen=True)
class Sample:
    """Which row groups are read, and which windows lie in them."""

    spans: tuple[Span, ...]
    """Row groups, with what their last windows reach beyond them."""
    selection: Selection
    """What is read of each row."""
    train: Windows
    val: Windows
    """Training and validation windows in these row groups."""

    def read(self, data: DataView) -> list[pa.Table]:
        """Read the spans, in order."""
        return [data.dataset.read(span, self.selection) for span in self.spans]

    def normalisation(self, data: DataView, tables: Sequence[pa.Table]) -> Normalisation:
        """Z-score by the TRs of the sample alone; a scan without training windows in it, as one
        that is held out."""
        uses, trained = [], set(self.train.scan.tolist())
        for index, (scan, use) in enumerate(zip(data.scans, data.uses, strict=True)):
            read = np.zeros(len(use), bool)
            for span in self.spans:
                if span.stimulus == scan.stimulus:
                    read[span.start : span.stop] = True
            if index not in trained:
                read &= use != Use.TRAINS
            uses.append(np.where(read, use, Use.NONE))
        return UsedRows(data.dataset, self.selection, data.scans, uses).fit(tables)


def choose_sample(data: DataView, n_train: int, n_val: int, seed: int) -> Sample:
    """Choose row groups at random until they hold so many windows, and each subject's BOLD.

    Parameters
    ----------
    data : DataView
        What will be trained on.
    n_train, n_val : int
        Windows wanted; fewer are there if the data set is that small, or its rows that large.
    seed : int
        Of the choice.

    Raises
    ------
    InputError
        If a subject has no training TRs.
    """
    selection = data.selection
    train = data.train[_with_enough(data)]
    of_train, of_val = _groups(data, train), _groups(data, data.val)
    subject_of = np.array([data.selection.subjects.index(scan.subject) for scan in data.scans])
    groups = np.random.default_rng(seed).permutation(np.unique(np.concatenate([of_train, of_val])))
    missing = set(range(len(data.selection.subjects)))
    chosen: list[int] = []
    counts = np.zeros(2, int)
    read_bytes = 0
    group_bytes = data.dataset.manifest.row_group_trs * selection.row_bytes(data.dataset)
    for group in groups.tolist():
        here = of_train == group
        subjects = set(subject_of[train.scan[here]].tolist())
        found = np.array([here.sum(), (of_val == group).sum()])
        more = (counts < (n_train, n_val)) & (read_bytes < _MOST_BYTES) | (counts == 0)
        if (more & (found > 0)).any() or subjects & missing:
            chosen.append(group)
            counts += found
            missing -= subjects
            read_bytes += group_bytes
    if missing:
        subject = data.selection.subjects[min(missing)]
        raise InputError(
            f"{data.dataset.storage.location}: subject {subject} has no training TRs; train on "
            "another stimulus of this subject, or leave it out"
        )
    first = {stimulus.name: index for index, stimulus in enumerate(data.dataset.manifest.stimuli)}
    spans = sorted(
        (_span(data, group) for group in chosen),
        key=lambda s: (first[s.stimulus], s.phase, s.start),
    )
    return Sample(
        tuple(spans), selection, train[np.isin(of_train, chosen)], data.val[np.isin(of_val, chosen)]
    )


def _with_enough(data: DataView) -> np.ndarray:
    """Return whether each training window's scan has enough training TRs in the row group, or as
    many as in any."""
    scan = data.train.scan
    _, place = np.unique(_groups(data, data.train) * len(data.scans) + scan, return_inverse=True)
    trs = np.bincount(place, data.train.length)[place]
    most = np.zeros(len(data.scans))
    np.maximum.at(most, scan, trs)
    enough: np.ndarray = trs >= np.minimum(_LEAST_TRS, most[scan])
    return enough


def _groups(data: DataView, windows: Windows) -> np.ndarray:
    """Return a number for the row group that each window begins in."""
    names = list(data.dataset.stimuli)
    stimulus = np.array([names.index(scan.stimulus) for scan in data.scans])[windows.scan]
    film = windows.phase * len(names) + stimulus
    return film * _stride(data) + windows.start // data.dataset.manifest.row_group_trs


def _span(data: DataView, group: int) -> Span:
    stimuli = data.dataset.manifest.stimuli
    phase, index = divmod(group // _stride(data), len(stimuli))
    stimulus = stimuli[index]
    step = data.dataset.manifest.row_group_trs
    start = group % _stride(data) * step
    stop = min(start + step + data.window - 1, data.dataset.bold_trs[stimulus.name])
    return Span(stimulus.name, max(0, start - data.lag_trs - data.context_trs), stop, phase)


def _stride(data: DataView) -> int:
    longest = max(data.dataset.bold_trs.values())
    return longest // data.dataset.manifest.row_group_trs + 1


class SampleLoader(Prefetching):
    """Batches of a sample, through the buffers that batches of a training go through.

    Parameters
    ----------
    sample : Sample
        Whose windows are asked for.
    tables : sequence of Table
        Its rows; see :meth:`Sample.read`.
    kinds, lag_trs, context_trs
        As :class:`giblet_ray.dataset.loader.MemoryLoader` takes them.
    scans : sequence of ScanKey
        What a window's scan index means.
    columns : mapping of str to ValueType
        The value columns of the tables.
    """

    def __init__(
        self,
        sample: Sample,
        tables: Sequence[pa.Table],
        kinds: Mapping[str, ValueType],
        scans: Sequence[ScanKey],
        columns: Mapping[str, ValueType],
        lag_trs: int,
        context_trs: int,
    ) -> None:
        super().__init__(kinds, lag_trs, context_trs, torch.device("cpu"))
        self._rows = StreamedRows(sample.selection.parts, scans, lag_trs, context_trs)
        self._before = lag_trs + context_trs
        for span, table in zip(sample.spans, tables, strict=True):
            (batch,) = table.combine_chunks().to_batches()
            self._rows.add(span, block_views(batch, columns))
        self._scans, self._spans = list(scans), sample.spans

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """See :class:`giblet_ray.dataset.loader.Loader`."""
        return self._prefetch(self._gathered(order))

    def _gathered(self, order: Sequence[Windows]) -> Generator[Gathered]:
        for windows in order:
            spans = [
                self._span_of(self._scans[scan].stimulus, phase, start)
                for scan, phase, start in zip(
                    *(each.tolist() for each in (windows.scan, windows.phase, windows.start)),
                    strict=True,
                )
            ]

            def gather(
                out: dict[str, np.ndarray], windows: Windows = windows, spans: list[Span] = spans
            ) -> None:
                self._rows.gather(windows, spans, out)

            yield self._buffers.fill(windows, gather)

    def _span_of(self, stimulus: str, phase: int, start: int) -> Span:
        first = max(0, start - self._before)
        film = (stimulus, phase)
        of_film = (span for span in self._spans if (span.stimulus, span.phase) == film)
        held = (span for span in of_film if span.start <= first)
        return max(held, key=lambda span: span.start)
