"""The shards as a Ray Data source: read tasks over spans of TRs, no join, no shuffle."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext, Datasource, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.dataset import MaterializedDataset
from ray.data.datasource import ReadTask
from ray.exceptions import RayTaskError

from giblet_ray.cluster import cluster_totals, smallest_object_store
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.errors import InputError

READ_BYTES = 64 * 2**20
"""Adjacent spans are read together up to this size: every read opens its files anew, and every
block costs Ray Data milliseconds, so that reads of single row groups would take twice as long."""

TASK_BYTES = 256 * 2**20
"""A read task takes at most about so much."""

STORE_PART = 32
"""A read takes at most this fraction of a node's object store: several run at a time, and wait."""


class ShardSource(Datasource):
    """Reads spans of TRs; rows as :meth:`Dataset.read` describes them, in the order of the spans.

    Adjacent spans that fall to one task are read together.

    Parameters
    ----------
    dataset : Dataset
        An open data set.
    selection : Selection
        Parts, subjects, codebooks and units to read.
    spans : sequence of Span
        What to read, usually whole row groups.
    read_bytes : int
        Up to what size adjacent spans are read together.
    lead_trs : int
        TRs that are read before what is read together, again: the context of its first ones.
    """

    def __init__(
        self,
        dataset: Dataset,
        selection: Selection,
        spans: Sequence[Span],
        read_bytes: int = READ_BYTES,
        lead_trs: int = 0,
    ) -> None:
        self._dataset = dataset
        self._selection = selection
        self._spans = list(spans)
        self._read_bytes, self._lead_trs = read_bytes, lead_trs

    def n_tasks(self, task_bytes: int, at_least: int = 1) -> int:
        """Return how many tasks of about so many bytes the spans are cut into."""
        by_size = math.ceil(self.estimate_inmemory_data_size() / task_bytes)
        return min(max(by_size, at_least), len(self._spans))

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all rows in memory."""
        return sum(map(len, self._spans)) * self._selection.row_bytes(self._dataset)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        """Cut the spans into at most `parallelism` tasks, each of consecutive spans."""
        n_tasks = max(1, min(parallelism, len(self._spans)))
        bounds = [len(self._spans) * task // n_tasks for task in range(n_tasks + 1)]
        return [
            self._task(self._spans[start:stop])
            for start, stop in itertools.pairwise(bounds)
            if stop > start
        ]

    def _task(self, spans: list[Span]) -> ReadTask:
        dataset, selection = self._dataset, self._selection
        joined = [
            replace(span, start=max(0, span.start - self._lead_trs))
            for span in join_adjacent(spans, self._read_bytes // selection.row_bytes(dataset))
        ]
        n_rows = sum(map(len, joined))
        # What a task carries: not the manifest of all films with each of thousands of tasks.
        read_from = dataset.only(span.stimulus for span in joined)

        def read() -> Iterable[pa.Table]:
            return (read_from.read(span, selection) for span in joined)

        metadata = BlockMetadata(
            num_rows=n_rows,
            size_bytes=n_rows * selection.row_bytes(dataset),
            input_files=None,
            exec_stats=None,
        )
        return ReadTask(read, metadata)


def join_adjacent(spans: Iterable[Span], max_trs: int) -> list[Span]:
    """Join each span with the next where that goes on where it ends, up to `max_trs` TRs."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.stimulus, last.phase, last.stop) == (span.stimulus, span.phase, span.start)
            and len(last) + len(span) <= max_trs
        ):
            joined[-1] = replace(last, stop=span.stop)
        else:
            joined.append(span)
    return joined


def read_shards(
    dataset: Dataset, selection: Selection, spans: Sequence[Span] | None = None
) -> ray.data.Dataset:
    """Return a Ray data set of the chosen TRs, lazily read (default: of all stimuli that have the
    parts of the selection).

    There are as many read tasks as the cluster has CPUs: fewer where a task would have less than
    64 MiB, which are read while a process for it starts, and more where it would have more than
    256 MiB.

    Examples
    --------
    >>> dataset = Dataset.open("s3://lab/sherlock")
    >>> rows = read_shards(dataset, Selection(parts=("clip",), subjects=("01",)))
    """
    read_bytes = min(READ_BYTES, smallest_object_store() // STORE_PART)
    spans = dataset.row_groups(selection.parts) if spans is None else spans
    source = ShardSource(dataset, selection, spans, read_bytes)
    n_tasks = source.n_tasks(TASK_BYTES, at_least=min(_n_cpus(), source.n_tasks(READ_BYTES)))
    return ray.data.read_datasource(source, override_num_blocks=n_tasks, **task_options())


def task_options() -> dict[str, Any]:
    """Return how tasks run that read shards, or work on what was read.

    As many at a time as the cluster has CPUs. Ray Data puts work with the same options into the
    tasks that read for it, so that blocks need not pass through the object store.
    """
    # Blocks that are lost with their node are read again while training workers, which wait for
    # them, may hold every CPU of the cluster: such tasks ask for none.
    return {"num_cpus": 0, "compute": TaskPoolStrategy(size=_n_cpus())}


def _n_cpus() -> int:
    return max(1, int(cluster_totals().get("CPU", 1)))


def hold_shards(dataset: Dataset, selection: Selection) -> MaterializedDataset:
    """Read all rows into the object store, once, for all workers of all nodes.

    They stay there for as long as the result is referenced.

    Raises
    ------
    InputError
        If a file is not what the manifest says, or damaged.
    """
    context = DataContext.get_current().copy()
    # What is read is kept whole, so a memory budget for what waits to be consumed has no meaning;
    # and in the first second of a stream that budget is zero, which allows one task at a time.
    context.op_resource_reservation_enabled = False
    with DataContext.current(context), plain_errors():
        return read_shards(dataset, selection).materialize()


def get_blocks(blocks: Sequence[ray.ObjectRef]) -> Iterator[pa.Table]:
    """Yield held blocks, which stay in the object store: a table is a view of one."""
    return (ray.get(block) for block in blocks)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what a read task has to say about a file as it said it, in one line.

    Ray wraps it in the task's traceback, and Ray Data logs that traceback twice.
    """
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            # Ray Data appends lines about its retries to the message.
            raise InputError(str(error.cause).partition("\n")[0]) from error
        raise
    finally:
        logger.setLevel(level)
