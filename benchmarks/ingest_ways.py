"""Ways that the rows of a data set take to a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ingest_plan import CONTEXT_TRS, Plan
from random_dataset import PARTS, SUBJECT

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import bold_column
from giblet_ray.dataset.loader import Loader
from giblet_ray.dataset.order import epoch_order
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.source import hold_shards
from giblet_ray.dataset.windows import Windows

SHUFFLE_BATCHES = 16
"""Batches in the local shuffle buffer of Ray Data's iterator."""

SCAN = "pyarrow scan"
INTO_STORE = "giblet_ray into the object store"
FROM_STORE = "giblet_ray, through the object store"
STREAMED = "giblet_ray, streamed from disk"
HELD = "giblet_ray, object store"

Batches = Iterator[tuple[dict[str, np.ndarray], np.ndarray]]
"""Values by part, and the row of the data set that each came from."""


class Ways:
    """The contenders."""

    def __init__(self, dataset: Dataset, arrays: dict[str, np.ndarray], batch_trs: int) -> None:
        self.plan = Plan(dataset, batch_trs)
        self.row_bytes = sum(kind.nbytes for kind in self.plan.kinds.values())
        self.n_bytes = self.plan.n_rows * self.row_bytes
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
            SCAN: scan,
            INTO_STORE: lambda _: hold_shards(dataset, selection).count(),
        }

    def first_pass(self) -> dict[str, Callable[[int], Batches]]:
        """Ways from the files to the end of the first shuffled epoch."""
        stream = self.plan.stream()
        return {
            FROM_STORE: self._first_pass_from_store,
            STREAMED: lambda epoch: self._loaded(stream, self.plan.shuffled_to_stream(epoch)),
        }

    def _first_pass_from_store(self, epoch: int) -> Batches:
        rows = hold_shards(self.plan.dataset, self.plan.selection)
        loader = self.plan.hold(ray.get(rows.to_arrow_refs()))
        yield from self._loaded(loader, self.plan.shuffled(epoch))

    def batches(self) -> dict[str, Callable[[int], Batches]]:
        """Ways to deliver one shuffled epoch of what is held."""
        memory = self.plan.hold(ray.get(self.refs))
        tensors = {name: torch.from_numpy(values) for name, values in self._arrays.items()}
        n_threads = torch.get_num_threads()
        return {
            HELD: lambda epoch: self._loaded(memory, self.plan.shuffled(epoch)),
            "Ray Data iter_batches": partial(self._ray_data, "numpy", False),
            "Ray Data iter_batches, Arrow": partial(self._ray_data, "pyarrow", False),
            "Ray Data random_shuffle, Arrow": partial(self._ray_data, "pyarrow", True),
            f"tensor[index], {n_threads} threads": partial(self._indexed, tensors, n_threads),
            "tensor[index], 1 thread": partial(self._indexed, tensors, 1),
            "index_select into buffers, 1 thread": partial(self._selected, tensors),
        }

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
        for rows in torch.from_numpy(epoch_order(self.plan.n_rows, 0, epoch)).split(
            self.plan.batch_trs
        ):
            yield {name: values[rows].numpy() for name, values in tensors.items()}, rows.numpy()

    def _selected(self, tensors: dict[str, torch.Tensor], epoch: int) -> Batches:
        torch.set_num_threads(1)
        size = self.plan.batch_trs
        buffers = {n: torch.empty((size, *v.shape[1:]), dtype=v.dtype) for n, v in tensors.items()}
        for rows in torch.from_numpy(epoch_order(self.plan.n_rows, 0, epoch)).split(size):
            for name, values in tensors.items():
                torch.index_select(values, 0, rows, out=buffers[name][: len(rows)])
            yield {n: buffer[: len(rows)].numpy() for n, buffer in buffers.items()}, rows.numpy()
