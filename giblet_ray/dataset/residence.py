"""Where a run's rows lie while it trains: on GPUs, in the object store, or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from giblet_ray.cluster import smallest_object_store
from giblet_ray.dataset.loader import DeviceLoader, Loader, MemoryLoader
from giblet_ray.dataset.normalise import Normalisation, UsedRows
from giblet_ray.dataset.normalise_on_cluster import fit_on_cluster
from giblet_ray.dataset.order import DataOrder
from giblet_ray.dataset.reader import Selection, Span
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.source import get_blocks, hold_shards, read_shards
from giblet_ray.dataset.stream import HORIZON_BATCHES, StreamLoader
from giblet_ray.dataset.view import DataView, Residence
from giblet_ray.errors import InputError

if TYPE_CHECKING:
    import ray.data

_OBJECT_STORE_SHARE = 0.7
"""Part of a node's object store that the data may fill; the rest is for blocks under way."""
_GPU_SHARE = 0.5
"""Part of a GPU's free memory that the data may fill; the rest is the model's."""


def place_data(data: DataView, residence: str, use_gpu: bool) -> DataView:
    """Decide where the rows lie on the cluster that is connected to.

    Raises
    ------
    InputError
        If they cannot lie where the user wants them.
    """
    chosen, reason = _choose_residence(residence, use_gpu, data.n_bytes)
    may_move = use_gpu and residence in ("auto", "device")
    return replace(data, residence=chosen, reason=reason, may_move_to_device=may_move)


def read_rows(data: DataView) -> ray.data.Dataset:
    """Return the rows that training needs: held in the object store, or BOLD alone to stream."""
    if data.residence == "stream":
        return read_shards(data.dataset, *_bold_of(data))
    return hold_shards(data.dataset, data.selection)


def hold_blocks(data: DataView, rows: ray.data.Dataset) -> DataView:
    """Return the data with the blocks of held rows; `rows`, which owns them, must be kept."""
    if data.residence == "stream":
        return data
    return replace(data, blocks=tuple(rows.to_arrow_refs()))


def normalise(data: DataView, rows: ray.data.Dataset) -> Normalisation:
    """Compute the z-scoring of all scans from the training TRs."""
    return fit_on_cluster(rows, _used_rows(data))


def open_loader(data: DataView, device: torch.device, order: DataOrder) -> Loader:
    """Return what delivers a worker's batches, for windows in some order.

    Raises
    ------
    InputError
        If the data were asked to lie on a GPU that has no room for them.
    """
    if data.residence == "stream":
        # Of an order that was drawn for memory every batch visits all row groups: to hold them
        # until they are needed again would be to hold the data set.
        horizon = HORIZON_BATCHES if order.streamed else 0
        return StreamLoader(
            data.dataset,
            data.selection,
            data.values,
            data.scans,
            data.window,
            data.lag_trs,
            device,
            data.context_trs,
            horizon,
        )
    in_blocks = (data.held or data.selection).value_types(data.dataset)
    columns = {name: in_blocks[name] for name in data.selection.columns}
    n_trs = data.dataset.bold_trs
    held = HeldRows(get_blocks(data.blocks), columns, data.scans, n_trs)
    if device.type == "cuda" and data.may_move_to_device:
        free, _ = torch.cuda.mem_get_info(device)
        if data.n_bytes < _GPU_SHARE * free:
            return DeviceLoader(
                held, data.values, data.scans, n_trs, data.lag_trs, device, data.context_trs
            )
        if data.residence == "device":
            raise InputError(
                f"--data.residence device: {data.n_bytes / 1e9:,.2f} GB of data against "
                f"{free / 1e9:,.2f} GB free on the GPU, half of which data may fill; use memory"
            )
    return MemoryLoader(held, data.values, data.lag_trs, device, data.context_trs)


def normalise_here(data: DataView) -> Normalisation:
    """Compute in this process what :func:`normalise` does on the cluster."""
    if data.residence == "stream":
        bold, spans = _bold_of(data)
        blocks: Iterator[pa.Table] = (data.dataset.read(span, bold) for span in spans)
    else:
        blocks = get_blocks(data.blocks)
    return _used_rows(data).fit(blocks)


def _bold_of(data: DataView) -> tuple[Selection, list[Span]]:
    """Return what is read to z-score BOLD: it is the same beside every phase of a film."""
    spans = [span for span in data.dataset.row_groups() if span.phase == 0]
    return replace(data.selection, parts=()), spans


def _used_rows(data: DataView) -> UsedRows:
    return UsedRows(data.dataset, data.selection, data.scans, data.uses)


def _choose_residence(asked: str, use_gpu: bool, nbytes: int) -> tuple[Residence, str]:
    room = _OBJECT_STORE_SHARE * smallest_object_store()
    size = f"{nbytes / 1e9:,.2f} GB"
    if asked == "device" and not use_gpu:
        raise InputError("--data.residence device needs GPUs; memory or stream is accepted here")
    if asked == "stream":
        return "stream", "as asked"
    if nbytes > room:
        limit = f"{size} against {room / 1e9:,.2f} GB of room in a node's object store"
        if asked == "auto":
            return "stream", limit
        raise InputError(f"--data.residence {asked}: {limit}; use stream, or fewer voxels")
    if asked == "device":
        return "device", "as asked"
    return "memory", f"{size} fits the {room / 1e9:,.2f} GB of room in a node's object store"
