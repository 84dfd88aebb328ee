"""Other ways from disk to shuffled batches: the same rows in the form that each of them reads.

MosaicML Streaming asks for other releases of numpy and transformers than giblet_ray, so that it is
no extra of this package. Into a folder of its own, and found there:

    pip install --no-deps --target peers mosaicml-streaming==0.13.0 \
        zstd python-snappy cramjam Brotli catalogue
    PYTHONPATH=peers python benchmarks/ingest.py
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

Batches = Iterator[tuple[dict[str, np.ndarray], np.ndarray]]
"""Values by part, and the row of the data set that each came from."""

N_WORKERS = os.cpu_count() or 1
"""Processes that load at a time: one per core, as both peers advise."""

_ROW = "row"
_SHARD_BYTES = 2**26


class ArrayRows(Dataset):
    """Rows of memory-mapped .npy files, a batch at a time: what torch's workers are fastest with.

    Parameters
    ----------
    files : mapping of str to Path
        File of each part.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._arrays = {name: np.load(file, mmap_mode="r") for name, file in files.items()}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitems__(self, rows: list[int]) -> dict[str, np.ndarray]:
        """Return the values of a batch, and its rows."""
        batch = {name: values[rows] for name, values in self._arrays.items()}
        return {**batch, _ROW: np.array(rows)}


def torch_workers(
    arrays: Mapping[str, np.ndarray], folder: Path, batch_size: int
) -> Callable[[int], Batches]:
    """Write arrays as .npy files; return what delivers an epoch of them by torch's DataLoader."""
    import torch

    files = {}
    for name, values in arrays.items():
        files[name] = folder / f"{name}.npy"
        np.save(files[name], values)

    def deliver(epoch: int) -> Batches:
        loader = DataLoader(
            ArrayRows(files),
            batch_size=batch_size,
            shuffle=True,
            num_workers=N_WORKERS,
            collate_fn=_as_tensors,  # type: ignore[arg-type]  # ArrayRows gives whole batches
            generator=torch.Generator().manual_seed(epoch),
        )
        yield from _as_batches(loader)

    return deliver


def mosaicml_streaming(
    arrays: Mapping[str, np.ndarray], folder: Path, batch_size: int
) -> Callable[[int], Batches] | None:
    """Write arrays as MDS shards; return what delivers an epoch of them by MosaicML Streaming.

    None where it is not installed.
    """
    streaming = _import_streaming()
    if streaming is None:
        return None
    columns = {
        name: f"ndarray:{values.dtype.name}:{','.join(map(str, values.shape[1:]))}"
        for name, values in arrays.items()
    }
    with streaming.MDSWriter(
        out=str(folder), columns={**columns, _ROW: "int"}, size_limit=_SHARD_BYTES
    ) as writer:
        for row in range(len(next(iter(arrays.values())))):
            writer.write({**{name: values[row] for name, values in arrays.items()}, _ROW: row})

    def deliver(epoch: int) -> Batches:
        # What an epoch before has left in shared memory would be taken for that of another job.
        streaming.base.util.clean_stale_shared_memory()
        rows = streaming.StreamingDataset(
            local=str(folder), shuffle=True, shuffle_seed=epoch, batch_size=batch_size
        )
        with warnings.catch_warnings():
            # Of the arrays that it gives torch, which are copied next.
            warnings.filterwarnings("ignore", message=".*NumPy array is not writable")
            yield from _as_batches(DataLoader(rows, batch_size=batch_size, num_workers=N_WORKERS))

    return deliver


def _as_tensors(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a batch as what workers hand over through shared memory, without another copy."""
    import torch

    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _as_batches(loader: DataLoader) -> Batches:
    for batch in loader:
        rows = batch.pop(_ROW).numpy()
        yield {name: values.numpy() for name, values in batch.items()}, rows


def _import_streaming() -> ModuleType | None:
    """Import MosaicML Streaming, where it is installed, with torchvision or without.

    It imports torchvision for data sets of images, of which none is used here.
    """
    if find_spec("streaming") is None:
        return None
    stand_ins: dict[str, dict[str, Any]] = {}
    if find_spec("torchvision") is None:
        stand_ins = {
            "torchvision": {},
            "torchvision.datasets": {"VisionDataset": object},
            "torchvision.transforms": {},
            "torchvision.transforms.functional": {"to_tensor": None},
        }
    for name, content in stand_ins.items():
        sys.modules[name] = module_from_spec(ModuleSpec(name, loader=None))
        vars(sys.modules[name]).update(content)
    try:
        return import_module("streaming")
    finally:
        for name in stand_ins:
            del sys.modules[name]
