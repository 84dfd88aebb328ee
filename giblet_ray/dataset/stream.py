"""Batches of a data set that is larger than the object store: read again in every epoch.

Each worker reads the row groups that its own batches need, in their order, a few ahead, by threads
of its process, and lets go of them when no batch of the near future needs them. Nobody else needs
them meanwhile, so that they do not pass through the object store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Self

import numpy as np
import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch, Gathered, Prefetching
from giblet_ray.dataset.order import STREAM_AHEAD_BYTES, STREAM_READERS
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import StreamedRows, Views, block_views
from giblet_ray.dataset.windows import Windows
from giblet_ray.parts.value import ValueType

HORIZON_BATCHES = 64
"""A span that no batch needs for so long is read again rather than held."""


@dataclass
class Visit:
    """What happens around one batch: spans read before it, and let go of after it."""

    read: list[Span] = field(default_factory=list)
    drop: list[Span] = field(default_factory=list)


def plan_visits(needs: Sequence[Sequence[Span]], horizon: int = HORIZON_BATCHES) -> list[Visit]:
    """Decide when each span is read and let go of.

    Parameters
    ----------
    needs : sequence of sequence of Span
        The spans that each batch takes rows from.
    horizon : int
        A span is held over a pause of at most this many batches.
    """
    visits = [Visit() for _ in needs]
    last_need: dict[Span, int] = {}
    for index, spans in enumerate(needs):
        for span in dict.fromkeys(spans):
            before = last_need.get(span)
            if before is None or index - before > horizon:
                visits[index].read.append(span)
                if before is not None:
                    visits[before].drop.append(span)
            last_need[span] = index
    for span, index in last_need.items():
        visits[index].drop.append(span)
    return visits


class StreamLoader(Prefetching):
    """Batches gathered from spans that are read just before they are needed.

    Parameters
    ----------
    dataset : Dataset
        An open data set.
    selection : Selection
        What of each row is read.
    kinds, lag_trs, device, context_trs
        As :class:`giblet_ray.dataset.loader.MemoryLoader` takes them.
    scans : sequence of ScanKey
        What a window's scan index means.
    window : int
        TRs of the longest window.
    horizon : int
        Batches over which what is needed again is held rather than read again.
    """

    def __init__(
        self,
        dataset: Dataset,
        selection: Selection,
        kinds: Mapping[str, ValueType],
        scans: Sequence[ScanKey],
        window: int,
        lag_trs: int,
        device: torch.device,
        context_trs: int = 0,
        horizon: int = HORIZON_BATCHES,
    ) -> None:
        super().__init__(kinds, lag_trs, context_trs, device)
        self._dataset, self._selection = dataset, selection
        self._scans, self._window, self._horizon = list(scans), window, horizon
        self._lag_trs, self._context_trs = lag_trs, context_trs
        self._repeats: dict[str, dict[str, int]] = {}
        for scan in scans:
            seen = self._repeats.setdefault(scan.stimulus, {})
            seen[scan.subject] = max(scan.repeat, seen.get(scan.subject, 1))

    def without(self, names: Collection[str]) -> Self:
        """See :class:`giblet_ray.dataset.loader.Loader`; they are not read, either."""
        fewer = super().without(names)
        parts = tuple(part for part in self._selection.parts if part not in names)
        subjects = () if "bold" in names else self._selection.subjects
        fewer._selection = replace(self._selection, parts=parts, subjects=subjects)
        return fewer

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """See :class:`giblet_ray.dataset.loader.Loader`."""
        return self._prefetch(self._gathered(order))

    def _gathered(self, order: Sequence[Windows]) -> Generator[Gathered]:
        rows = StreamedRows(self._selection.parts, self._scans, self._lag_trs, self._context_trs)
        needs = [self.spans(windows) for windows in order]
        visits = plan_visits(needs, self._horizon)
        # Closed with this generator, so that no reading goes on for a user who left early.
        with closing(self._read([span for visit in visits for span in visit.read])) as read:
            for windows, spans, visit in zip(order, needs, visits, strict=True):
                for span in visit.read:
                    rows.add(span, next(read))

                def gather(
                    out: dict[str, np.ndarray],
                    windows: Windows = windows,
                    spans: list[Span] = spans,
                ) -> None:
                    rows.gather(windows, spans, out)

                yield self._buffers.fill(windows, gather)
                for span in visit.drop:
                    rows.drop(span)

    def spans(self, windows: Windows) -> list[Span]:
        """Return, for each window, the row group it begins in and what it may reach around it."""
        step = self._dataset.manifest.row_group_trs
        spans = []
        which = (windows.scan.tolist(), windows.start.tolist(), windows.phase.tolist())
        for index, start, phase in zip(*which, strict=True):
            stimulus = self._scans[index].stimulus
            first = start // step * step
            last = min(first + step + self._window - 1, self._dataset.bold_trs[stimulus])
            before = self._lag_trs + self._context_trs
            spans.append(Span(stimulus, max(0, first - before), last, phase))
        return spans

    def _selection_of(self, stimulus: str) -> Selection:
        """Return what is read of a stimulus: no BOLD of those who have not seen it."""
        seen = self._repeats[stimulus]
        subjects = tuple(name for name in self._selection.subjects if name in seen)
        return replace(self._selection, subjects=subjects, repeats=seen)

    def _read(self, spans: Sequence[Span]) -> Generator[Views]:
        """Yield the rows of each span, read a few spans ahead."""
        if not spans:
            return
        films = dict.fromkeys(span.stimulus for span in spans)
        row_bytes = max(self._selection_of(film).row_bytes(self._dataset) for film in films)
        span_bytes = max(map(len, spans)) * row_bytes
        todo = iter(spans)
        readers = ThreadPoolExecutor(STREAM_READERS, "stream")
        try:
            ahead = islice(todo, max(STREAM_READERS, STREAM_AHEAD_BYTES // span_bytes))
            reading = deque(readers.submit(self.rows, span) for span in ahead)
            while reading:
                yield reading.popleft().result()
                reading.extend(readers.submit(self.rows, span) for span in islice(todo, 1))
        finally:
            readers.shutdown(cancel_futures=True)

    def rows(self, span: Span) -> Views:
        """Read the rows of a span; of row groups that it cuts, its own rows are copied, so that
        the others can be let go of."""
        selection = self._selection_of(span.stimulus)
        (table,) = self._dataset.read(span, selection).to_batches()
        views = block_views(table, selection.value_types(self._dataset))
        for name, view in views.items():
            if table.column(name).buffers()[1].size > view.nbytes:
                views[name] = view.copy()
        return views
