"""How fast and in how much memory a data set reaches the workers, beside the obvious other ways.

    python benchmarks/ingest.py --rows 8192 --voxels 4096 --batch-trs 64

Makes a data set of random numbers in a temporary folder, checks that every way delivers the right
rows, and prints three tables:

reading
    all shards into the object store through Ray Data, every row group compared with its checksum,
    beside pyarrow reading the same files in this process with all its threads, comparing nothing.
batches
    one shuffled epoch delivered to one worker: from the object store and streamed from disk by
    giblet_ray; from the object store in windows of several TRs with the context before them, whose
    rows are those of the stimulus, context or not; by Ray Data's own iterator over the same held
    blocks (block order randomised and a local shuffle buffer, Arrow batches, so that nothing is
    converted); and by indexing shuffled rows of torch tensors in memory, as ``tensor[index]`` and
    as index_select into reused buffers.
memory
    so many worker processes that take an epoch from the same blocks: the object store (shared
    memory) and the workers' private memory, at their peak.

Contenders take turns, and a ratio is the median over the rounds: on a machine that others use at
the same time, single numbers wander and ratios within a round less so.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from machine import CONSOLE, MiB, cpu_model
from memory import Memory, Peak, print_memory, private_bytes, shared_bytes
from random_dataset import PARTS, ROW_GROUP_TRS, SUBJECT, write_random_dataset
from rates import Rates, compare, print_rates, spread
from rich.table import Table

from giblet_ray.cluster import connect
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.loader import Loader, MemoryLoader
from giblet_ray.dataset.order import (
    STREAM_MIX_ROW_GROUPS,
    epoch_batches,
    epoch_order,
    streamed_epoch_order,
)
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.source import hold_shards
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import Windows, batch_windows, cut_windows, window_trs
from giblet_ray.parts.value import ValueType

CONTEXT_TRS = 14
"""Context of a window: 20 s, of 1.5 s each."""

SHUFFLE_BATCHES = 16
"""Batches in the local shuffle buffer of Ray Data's iterator."""

WITH_CONTEXT = "giblet_ray, windows with context"

Batches = Iterator[tuple[dict[str, np.ndarray], np.ndarray]]
"""Values by part, and the row of the data set that each came from."""


def main() -> None:
    """Parse, write the data set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=8192, help="TRs in the data set")
    parser.add_argument("--voxels", type=int, default=4096, help="voxels per TR (float32)")
    parser.add_argument("--batch-trs", type=int, default=64, help="TRs per batch")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after one to warm up")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="at a time")
    options = parser.parse_args()

    connect()
    with tempfile.TemporaryDirectory() as folder:
        arrays = write_random_dataset(folder, options.rows, options.voxels)
        bench = Bench(Dataset.open(folder), arrays, options.batch_trs)
        print_machine(bench)
        # First, while nothing but the blocks lies in the object store.
        memory = [bench.memory(n_workers) for n_workers in options.workers]
        print_memory(memory, bench.n_bytes)
        reading = compare(bench.reading(), options.repeats)
        print_rates("reading", reading, bench.row_bytes)
        batches = bench.batches()
        for name, deliver in batches.items():
            check(name, deliver(0), arrays)
        check(WITH_CONTEXT, bench.with_context(0), arrays)
        ways = {name: partial(exhaust, deliver) for name, deliver in batches.items()}
        delivered = compare(ways | {WITH_CONTEXT: bench.count_with_context}, options.repeats)
        print_rates("batches, shuffled, to one worker", delivered, bench.row_bytes)
        print_targets(reading, delivered, memory)


@dataclass(frozen=True)
class Plan:
    """What is read and in which order: all that a worker needs beside the blocks."""

    dataset: Dataset
    batch_trs: int

    @property
    def selection(self) -> Selection:
        """All of every row."""
        return Selection(PARTS, (SUBJECT,))

    @property
    def scans(self) -> list[ScanKey]:
        """Both runs."""
        return list(self.dataset.scans)

    @property
    def n_trs(self) -> dict[str, int]:
        """TRs of each stimulus."""
        return self.dataset.bold_trs

    @property
    def kinds(self) -> dict[str, ValueType]:
        """What a batch holds."""
        return {
            **{part: self.dataset.value_type(part) for part in PARTS},
            "bold": self.dataset.value_type(bold_column(SUBJECT)),
        }

    @property
    def window(self) -> int:
        """TRs of a window with context, as a run chooses them."""
        return window_trs(CONTEXT_TRS, self.batch_trs, max(self.n_trs.values()))

    def windows(self, length: int = 1) -> Windows:
        """All TRs in windows."""
        spans = [Span(name, 0, n) for name, n in self.n_trs.items()]
        return cut_windows(spans, self.scans, length)

    def cut(self, order: np.ndarray) -> list[Windows]:
        """Cut an order of single TRs into batches."""
        windows = self.windows()[order]
        return [windows[i : i + self.batch_trs] for i in range(0, len(order), self.batch_trs)]

    def cut_with_context(self, epoch: int) -> list[Windows]:
        """Cut an epoch of windows with context into batches."""
        windows = self.windows(self.window)
        order, size = (
            epoch_order(len(windows), 0, epoch),
            batch_windows(self.batch_trs, self.window),
        )
        return [windows[batch] for batch in epoch_batches(order, size, 1)]

    def hold(self, blocks: Sequence[pa.Table], context_trs: int = 0) -> MemoryLoader:
        """Return the loader over blocks in the object store."""
        columns = self.selection.value_types(self.dataset)
        held = HeldRows(blocks, columns, self.scans, self.n_trs)
        return MemoryLoader(held, self.kinds, 0, torch.device("cpu"), context_trs)


class Bench:
    """The contenders."""

    def __init__(self, dataset: Dataset, arrays: dict[str, np.ndarray], batch_trs: int) -> None:
        self.plan = Plan(dataset, batch_trs)
        self.n_rows = len(arrays["bold"])
        self.row_bytes = sum(kind.nbytes for kind in self.plan.kinds.values())
        self.n_bytes = self.n_rows * self.row_bytes
        self._shared_before = shared_bytes()
        self.rows = hold_shards(dataset, self.plan.selection)
        self.refs = self.rows.to_arrow_refs()
        self._first_row = dict(
            zip(self.plan.n_trs, [0, *np.cumsum(list(self.plan.n_trs.values()))], strict=False)
        )
        self._first_rows = np.array([self._first_row[scan.stimulus] for scan in self.plan.scans])
        self._arrays = arrays
        self._in_context = self.plan.hold(ray.get(self.refs), CONTEXT_TRS)

    def with_context(self, epoch: int) -> Batches:
        """Deliver one shuffled epoch of windows with context, without that context."""
        for batch in self._in_context.batches(self.plan.cut_with_context(epoch)):
            trs, own = batch.windows.bold_rows()
            values = {n: each[:, -trs.shape[1] :][own].numpy() for n, each in batch.values.items()}
            yield values, (self._first_rows[batch.windows.scan][:, None] + trs)[own]

    def count_with_context(self, epoch: int) -> int:
        """Deliver it as it comes; return the stimulus rows, context among them."""
        batches = self._in_context.batches(self.plan.cut_with_context(epoch))
        return sum(int(batch.exists.sum()) for batch in batches)

    def reading(self) -> dict[str, Callable[[int], int]]:
        """Ways to read all files; each returns the rows read."""
        dataset, selection = self.plan.dataset, self.plan.selection
        paths = [dataset.storage.path(shard.path) for shard in dataset.shards]

        def scan(_: int) -> int:
            return sum(len(pq.read_table(path)) for path in paths) // len(self.plan.kinds)

        return {
            "pyarrow scan": scan,
            "giblet_ray into the object store": lambda _: hold_shards(dataset, selection).count(),
        }

    def batches(self) -> dict[str, Callable[[int], Batches]]:
        """Ways to deliver one shuffled epoch."""
        blocks = ray.get(self.refs)
        memory = self.plan.hold(blocks)
        stream = StreamLoader(
            self.plan.dataset,
            self.plan.selection,
            self.plan.kinds,
            self.plan.scans,
            1,
            0,
            torch.device("cpu"),
        )
        tensors = {name: torch.from_numpy(values) for name, values in self._arrays.items()}
        n_threads = torch.get_num_threads()
        return {
            "giblet_ray, object store": lambda epoch: self._loaded(
                memory, self.plan.cut(epoch_order(self.n_rows, 0, epoch))
            ),
            "giblet_ray, streamed from disk": lambda epoch: self._loaded(
                stream, self.plan.cut(self._streamed_order(epoch))
            ),
            "Ray Data iter_batches": partial(self._ray_data, "numpy", False),
            "Ray Data iter_batches, Arrow": partial(self._ray_data, "pyarrow", False),
            "Ray Data random_shuffle, Arrow": partial(self._ray_data, "pyarrow", True),
            f"tensor[index], {n_threads} threads": partial(self._indexed, tensors, n_threads),
            "tensor[index], 1 thread": partial(self._indexed, tensors, 1),
            "index_select into buffers, 1 thread": partial(self._selected, tensors),
        }

    def _streamed_order(self, epoch: int) -> np.ndarray:
        windows = self.plan.windows()
        group = windows.scan.astype(np.int64) * self.n_rows + windows.start // ROW_GROUP_TRS
        return streamed_epoch_order(group, STREAM_MIX_ROW_GROUPS, 0, epoch)

    def _loaded(self, loader: Loader, order: list[Windows]) -> Batches:
        for batch in loader.batches(order):
            values = {name: tensor[:, 0].numpy() for name, tensor in batch.values.items()}
            yield values, self._first_rows[batch.windows.scan] + batch.windows.start

    def _ray_data(self, batch_format: str, whole_epoch: bool, epoch: int) -> Batches:
        kinds = {name: self.plan.kinds[name] for name in PARTS}
        kinds[bold_column(SUBJECT)] = self.plan.kinds["bold"]
        size = self.plan.batch_trs
        if whole_epoch:
            shuffled = self.rows.random_shuffle(seed=epoch)
            batches: Iterable[Any] = shuffled.iter_batches(
                batch_size=size, batch_format=batch_format
            )
        else:
            batches = self.rows.randomize_block_order(seed=epoch).iter_batches(
                batch_size=size,
                batch_format=batch_format,
                local_shuffle_buffer_size=SHUFFLE_BATCHES * size,
                local_shuffle_seed=epoch,
            )
        for batch in batches:
            if isinstance(batch, pa.Table):
                arrays = {n: as_arrays(batch[n].combine_chunks(), k) for n, k in kinds.items()}
                names, trs = batch["stimulus"].to_pylist(), batch["tr"].to_numpy()
            else:
                arrays = {
                    name: np.frombuffer(b"".join(batch[name]), kind.numpy).reshape(-1, *kind.shape)
                    for name, kind in kinds.items()
                }
                names, trs = batch["stimulus"], batch["tr"]
            values = {name.partition("/")[0]: array for name, array in arrays.items()}
            yield values, np.array([self._first_row[name] for name in names]) + trs

    def _indexed(self, tensors: dict[str, torch.Tensor], n_threads: int, epoch: int) -> Batches:
        torch.set_num_threads(n_threads)
        for rows in torch.from_numpy(epoch_order(self.n_rows, 0, epoch)).split(self.plan.batch_trs):
            yield {name: values[rows].numpy() for name, values in tensors.items()}, rows.numpy()

    def _selected(self, tensors: dict[str, torch.Tensor], epoch: int) -> Batches:
        torch.set_num_threads(1)
        size = self.plan.batch_trs
        buffers = {n: torch.empty((size, *v.shape[1:]), dtype=v.dtype) for n, v in tensors.items()}
        for rows in torch.from_numpy(epoch_order(self.n_rows, 0, epoch)).split(size):
            for name, values in tensors.items():
                torch.index_select(values, 0, rows, out=buffers[name][: len(rows)])
            yield {n: buffer[: len(rows)].numpy() for n, buffer in buffers.items()}, rows.numpy()

    def memory(self, n_workers: int) -> Memory:
        """Let workers take one epoch each from the same blocks, and watch their memory."""
        workers = [EpochWorker.remote(self.plan) for _ in range(n_workers)]  # type: ignore[attr-defined]
        pids = ray.get([worker.pid.remote() for worker in workers])
        start = private_bytes(pids)
        peak = Peak(lambda: (shared_bytes() - self._shared_before, private_bytes(pids)))
        with peak:
            # In a list, so that the references travel and not what they refer to.
            counts = ray.get([worker.epoch.remote([self.refs]) for worker in workers])
        if counts != [self.n_rows] * n_workers:
            raise RuntimeError(f"workers were given {counts} rows, not {self.n_rows} each")
        for worker in workers:
            ray.kill(worker)
        store, private = (max(values) for values in zip(*peak.seen, strict=True))
        return Memory(n_workers, store, start, private)


@ray.remote(num_cpus=0)
class EpochWorker:
    """A process that maps the blocks, as a training worker does."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def pid(self) -> int:
        """Return the process's id, when everything that it needs has been imported."""
        return os.getpid()

    def epoch(self, refs: list[list[ray.ObjectRef]]) -> int:
        """Take two shuffled epochs; return the rows of the second."""
        loader = self._plan.hold(ray.get(refs[0]))
        n_rows = len(self._plan.windows())
        for epoch in range(2):
            order = self._plan.cut(epoch_order(n_rows, 0, epoch))
            count = sum(len(batch.windows) for batch in loader.batches(order))
        return count


# --- measuring --------------------------------------------------------------------------------


def exhaust(deliver: Callable[[int], Batches], epoch: int) -> int:
    """Take all batches of an epoch; return the number of rows."""
    return sum(len(rows) for _, rows in deliver(epoch))


def check(name: str, batches: Batches, arrays: dict[str, np.ndarray]) -> None:
    """Raise unless every row comes once and every batch holds the rows that it says."""
    seen = np.zeros(len(arrays["bold"]), dtype=int)
    for values, rows in batches:
        seen[rows] += 1
        for part, expected in arrays.items():
            if not np.array_equal(values[part], expected[rows]):
                raise RuntimeError(f"{name}: {part} differs from what was written")
    if (seen != 1).any():
        raise RuntimeError(f"{name}: {int((seen != 1).sum())} rows not delivered exactly once")


# --- printing ---------------------------------------------------------------------------------


def print_machine(bench: Bench) -> None:
    """Say what is measured, and on what."""
    load, _, _ = os.getloadavg()
    CONSOLE.print(
        f"{cpu_model()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; "
        f"load of others and this {load:.1f}; ray {ray.__version__}, torch {torch.__version__}, "
        f"pyarrow {pa.__version__}\n{bench.n_rows:,} rows of {bench.row_bytes:,} bytes, "
        f"{bench.n_bytes / MiB:,.0f} MiB, row groups of {ROW_GROUP_TRS}, batches of "
        f"{bench.plan.batch_trs}; files in the page cache"
    )


def print_targets(
    reading: dict[str, Rates], batches: dict[str, Rates], memory: list[Memory]
) -> None:
    """Print the ratios that were promised."""
    ours = batches["giblet_ray, object store"]
    tensors = max(
        (rates for name, rates in batches.items() if name.startswith("tensor")),
        key=lambda rates: rates.median,
    )
    into_store = reading["giblet_ray into the object store"]
    grown = (memory[-1].for_data - memory[0].for_data) / (memory[-1].n_workers - 1)
    lines: list[tuple[str, Any, str]] = [
        ("reading / pyarrow scan", into_store.over(reading["pyarrow scan"]), "0.5"),
        ("batches / tensor[index]", ours.over(tensors), "4"),
        ("with context / without, by stimulus rows", batches[WITH_CONTEXT].over(ours), "1"),
        ("batches / Ray Data iter_batches", ours.over(batches["Ray Data iter_batches"]), "5"),
        (
            "batches / Ray Data iter_batches, Arrow",
            ours.over(batches["Ray Data iter_batches, Arrow"]),
            "-",
        ),
        (
            "batches / Ray Data random_shuffle, Arrow",
            ours.over(batches["Ray Data random_shuffle, Arrow"]),
            "-",
        ),
    ]
    table = Table("ratio", "measured", "at least", title="targets")
    for name, ratios, target in lines:
        table.add_row(name, spread(ratios), target)
    CONSOLE.print(table)
    CONSOLE.print(
        f"memory for data per additional worker: {grown / MiB:.0f} MiB "
        "(batch buffers and page tables; the rows are shared)"
    )


if __name__ == "__main__":
    main()
