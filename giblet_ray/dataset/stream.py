"""Batches of a data set that is larger than the object store: read again in every epoch.

Row groups are read by Ray Data in the order in which the batches need them, a few ahead, and let
go of when no batch of the near future needs them.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import DataContext, ExecutionResources, TaskPoolStrategy

from giblet_ray.cluster import smallest_object_store
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch, Gathered, Prefetching
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import StreamedRows, Views, copied_rows
from giblet_ray.dataset.source import STORE_PART, ShardSource, plain_errors
from giblet_ray.dataset.windows import Windows
from giblet_ray.parts.value import ValueType

_READ_TASKS = 2
"""Read tasks that run at the same time for one worker."""

_TASK_BYTES = 32 * 2**20
"""A read task takes about so much, since starting one costs Ray Data 15 ms; a span at least, and
no more than a part of a small object store, which would spill what waits in it to disk."""

_AHEAD_TASKS = 4
"""What so many read tasks give may lie in the object store unused."""

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
    """Batches gathered from spans that Ray Data reads just before they are needed.

    Parameters
    ----------
    dataset : Dataset
        An open data set.
    selection : Selection
        What of each row is read.
    kinds : mapping of str to ValueType
        Parts of the stimulus, and ``bold``, as a batch has them.
    scans : sequence of ScanKey
        What a window's scan index means.
    window : int
        TRs of the longest window.
    lag_trs : int
        A window's stimulus lies this many TRs before its BOLD.
    device : torch.device
        Where batches go.
    context_trs : int
        TRs of the stimulus before a window that its batch has too.
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

    def _read(self, spans: list[Span]) -> Generator[Views]:
        """Yield copies of the rows of each span, read a few spans ahead."""
        if not spans:
            return
        kinds = self._selection.value_types(self._dataset)
        with closing(iter(self._blocks(spans))) as blocks:
            # Ray Data joins and cuts blocks as it likes: only the order of the rows is certain.
            pending: list[pa.Table] = []
            for span in spans:
                while sum(map(len, pending)) < len(span):
                    with plain_errors():
                        pending.append(next(blocks))
                joined = pa.concat_tables(pending)
                yield copied_rows(joined.slice(0, len(span)), kinds)
                pending = [joined.slice(len(span))]

    def _blocks(self, spans: list[Span]) -> Generator[pa.Table]:
        """Start reading; the blocks of the spans, in order."""
        task_bytes = min(_TASK_BYTES, smallest_object_store() // STORE_PART)
        source = ShardSource(self._dataset, self._selection, spans, task_bytes)
        n_tasks = source.n_tasks(task_bytes)
        span_bytes = max(map(len, spans)) * self._selection.row_bytes(self._dataset)
        context = DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=_AHEAD_TASKS * max(task_bytes, span_bytes)
        )
        # Ray Data tells of every execution, here one for each epoch of each worker, and of errors
        # that are raised as well.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        here = ray.get_runtime_context().get_node_id()
        with DataContext.current(context):
            stream = ray.data.read_datasource(
                source,
                override_num_blocks=n_tasks,
                compute=TaskPoolStrategy(size=min(_READ_TASKS, n_tasks)),
                # Training workers may hold every CPU of the cluster: reads ask for none, and run
                # on the node that needs the rows.
                num_cpus=0,
                label_selector={"ray.io/node-id": here},
            )
            return iter(stream.iter_batches(batch_size=None, batch_format="pyarrow"))
