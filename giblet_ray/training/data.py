"""What a training reads, decided before any worker starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray
import ray.data
import torch

from giblet_ray.cluster import smallest_object_store
from giblet_ray.config import TrainJob
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.loader import DeviceLoader, Loader, MemoryLoader
from giblet_ray.dataset.normalise import (
    Normalisation,
    fit_normalisation,
    fit_normalisation_here,
)
from giblet_ray.dataset.reader import Dataset, Selection
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.schema import ValueType
from giblet_ray.dataset.source import hold_shards, read_shards
from giblet_ray.dataset.splits import Split, gap_trs, split_blocks, split_stimuli
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import ScanKey, Windows, cut_windows
from giblet_ray.errors import InputError
from giblet_ray.models.build import stimulus_parts
from giblet_ray.training.loop import Samples

_OBJECT_STORE_SHARE = 0.7
"""Part of a node's object store that the data may fill; the rest is for blocks under way."""
_GPU_SHARE = 0.5
"""Part of a GPU's free memory that the data may fill; the rest is the model's."""

Residence = Literal["device", "memory", "stream"]


@dataclass(frozen=True)
class TrainingData:
    """Everything about the data that a worker needs; small, and the same for all of them.

    Attributes
    ----------
    dataset, selection : Dataset, Selection
        What is read. The selection has no lag.
    scans : tuple of ScanKey
        What a window's scan index means.
    split : Split
        Spans of stimulus TRs.
    train, val : Windows
        Samples.
    lag_trs, window : int
        BOLD's delay, and TRs per sample.
    residence : {'memory', 'device', 'stream'}
        Where the rows lie; with `reason`, as told to the user. See :func:`place_data`.
    may_move_to_device : bool
        Workers whose GPU has room take the rows from the object store to it.
    blocks : tuple of ObjectRef
        Rows in the object store, unless streamed.
    held : Selection
        What the blocks hold: the selection, or more.
    """

    dataset: Dataset
    selection: Selection
    scans: tuple[ScanKey, ...]
    split: Split
    train: Windows
    val: Windows
    lag_trs: int
    window: int
    residence: Residence = "stream"
    may_move_to_device: bool = False
    reason: str = ""
    blocks: tuple[ray.ObjectRef, ...] = ()
    held: Selection | None = None

    @property
    def n_voxels(self) -> int:
        """Voxels that are predicted."""
        return self.values["bold"].shape[0]

    @property
    def values(self) -> dict[str, ValueType]:
        """What one row of a batch holds, by part."""
        kinds = self.selection.value_types(self.dataset)
        bold = kinds[self.selection.columns[-1]]
        return {name: kinds[name] for name in self.selection.parts} | {"bold": bold}

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint records of the data set."""
        manifest = self.dataset.manifest
        made_with = {
            name: manifest.provenance.get(name, {}).get("made_with") for name in manifest.values
        }
        return {
            "location": self.dataset.storage.location,
            "checksum": manifest.checksum,
            "tr_seconds": manifest.tr_seconds,
            "values": {name: kind.model_dump(mode="json") for name, kind in self.values.items()},
            "n_voxels": self.n_voxels,
            "made_with": made_with,
        }

    def samples(self) -> Samples:
        """Return the windows, with their row groups if the data is streamed."""
        if self.residence != "stream":
            return Samples(self.train, self.val, None)
        stimulus = {name: index for index, name in enumerate(self.dataset.stimuli)}
        of_scan = np.array([stimulus[scan.stimulus] for scan in self.scans])
        longest = max(stimulus.n_trs for stimulus in self.dataset.manifest.stimuli)
        first_tr = of_scan[self.train.scan] * longest + self.train.start
        return Samples(self.train, self.val, first_tr // self.dataset.manifest.row_group_trs)

    def loader(self, device: torch.device) -> Loader:
        """Return what delivers this worker's batches."""
        if self.residence == "stream":
            shifted = replace(self.selection, lag_trs=self.lag_trs)
            return StreamLoader(self.dataset, shifted, self.values, self.scans, self.window, device)
        in_blocks = (self.held or self.selection).value_types(self.dataset)
        columns = {name: in_blocks[name] for name in self.selection.columns}
        n_trs = {name: stimulus.n_trs for name, stimulus in self.dataset.stimuli.items()}
        held = HeldRows(ray.get(list(self.blocks)), columns, self.scans, n_trs)
        if device.type == "cuda" and self.may_move_to_device:
            free, _ = torch.cuda.mem_get_info(device)
            if self.n_bytes < _GPU_SHARE * free:
                return DeviceLoader(held, self.values, self.scans, n_trs, self.lag_trs, device)
            if self.residence == "device":
                raise InputError(
                    f"--data.residence device: {self.n_bytes / 1e9:,.2f} GB of data against "
                    f"{free / 1e9:,.2f} GB free on the GPU, half of which data may fill; use memory"
                )
        return MemoryLoader(held, self.values, self.lag_trs, device)

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        rows = sum(len(span) for span in self.dataset.row_groups())
        return rows * self.selection.row_bytes(self.dataset)


def plan_data(job: TrainJob, dataset: Dataset | None = None) -> TrainingData:
    """Decide what is read, from the settings and the manifest alone; starts nothing.

    Parameters
    ----------
    job : TrainJob
        Validated settings.
    dataset : Dataset, optional
        The job's data set, if it is open already.

    Raises
    ------
    InputError
        If the data set lacks what is asked for, or the split leaves too little.
    """
    dataset = dataset or Dataset.open(job.dataset)
    selection = _selection(job, dataset)
    scans = tuple(
        ScanKey(subject, stimulus)
        for subject in selection.subjects
        for stimulus in dataset.stimuli
        if (subject, stimulus) in dataset.scans
    )
    split = _split(job.data, dataset, scans)
    train = cut_windows(split.train, scans, job.data.window, keep_rest=False)
    val = cut_windows(split.val, scans, job.data.window, keep_rest=True)
    return TrainingData(
        dataset, selection, scans, split, train, val, job.data.lag_trs, job.data.window
    )


def place_data(data: TrainingData, residence: str, use_gpu: bool) -> TrainingData:
    """Decide where the rows lie on the cluster that is connected to.

    Raises
    ------
    InputError
        If they cannot lie where the user wants them.
    """
    chosen, reason = _choose_residence(residence, use_gpu, data.n_bytes)
    may_move = use_gpu and residence in ("auto", "device")
    return replace(data, residence=chosen, reason=reason, may_move_to_device=may_move)


def read_rows(data: TrainingData) -> ray.data.Dataset:
    """Return the rows that training needs: held in the object store, or BOLD alone to stream."""
    if data.residence == "stream":
        return read_shards(data.dataset, replace(data.selection, parts=()))
    return hold_shards(data.dataset, data.selection)


def hold_blocks(data: TrainingData, rows: ray.data.Dataset) -> TrainingData:
    """Return the data with the blocks of held rows; `rows`, which owns them, must be kept."""
    if data.residence == "stream":
        return data
    return replace(data, blocks=tuple(rows.to_arrow_refs()))


def normalise(data: TrainingData, rows: ray.data.Dataset) -> Normalisation:
    """Compute the z-scoring of all scans from the training TRs."""
    return fit_normalisation(
        rows, data.dataset, data.selection, data.scans, data.split.train, data.lag_trs
    )


def normalise_here(data: TrainingData) -> Normalisation:
    """Compute in this process what :func:`normalise` does on the cluster."""
    if data.residence == "stream":
        bold = replace(data.selection, parts=())
        blocks = (data.dataset.read(span, bold) for span in data.dataset.row_groups())
    else:
        blocks = (ray.get(block) for block in data.blocks)
    return fit_normalisation_here(
        blocks, data.dataset, data.selection, data.scans, data.split.train, data.lag_trs
    )


def _selection(job: TrainJob, dataset: Dataset) -> Selection:
    where = dataset.storage.location
    parts = stimulus_parts(job.data)
    for part in (*parts, "bold"):
        if part not in dataset.manifest.values:
            has = ", ".join(dataset.manifest.values)
            raise InputError(f"{where}: has no {part}/, which the run needs; it has {has}")
    n_codebooks = None
    if "codes" in parts:
        n_codebooks = job.model.audio_codebooks
        held = dataset.manifest.values["codes"].shape[0]
        if n_codebooks > held:
            raise InputError(
                f"--model.audio_codebooks {n_codebooks}: {where} has {held} codebooks; use at "
                f"most {held}, or precompute with --codes.codebooks {n_codebooks}"
            )
    return Selection(
        parts=parts,
        subjects=dataset.checked_subjects(job.data.subjects),
        n_codebooks=n_codebooks,
        voxels=_voxels(job.data.voxels, dataset.n_voxels),
    )


def _voxels(path: str | None, n_voxels: int) -> np.ndarray | None:
    """Read the chosen voxels' indices."""
    if path is None:
        return None
    try:
        chosen = np.load(Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--data.voxels {path}: not a readable .npy file: {error}") from error
    if chosen.dtype == bool:
        if chosen.shape != (n_voxels,):
            raise InputError(
                f"--data.voxels {path}: a mask of shape {chosen.shape}; the data set's scans "
                f"have {n_voxels} voxels, so ({n_voxels},) is accepted"
            )
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise InputError(
            f"--data.voxels {path}: found {chosen.dtype} of shape {chosen.shape}; a boolean mask "
            "or a list of integer indices is accepted"
        )
    if len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= n_voxels:
        found = f"{chosen.min()} to {chosen.max()}" if len(chosen) else "no voxel"
        raise InputError(
            f"--data.voxels {path}: {found}; indices of 0 to {n_voxels - 1} are accepted"
        )
    if len(np.unique(chosen)) < len(chosen):
        raise InputError(f"--data.voxels {path}: a voxel is named twice; each may be once")
    return chosen


def _split(settings: DataConfig, dataset: Dataset, scans: tuple[ScanKey, ...]) -> Split:
    seen = dict.fromkeys(scan.stimulus for scan in scans)
    usable = {name: dataset.stimuli[name].n_trs - settings.lag_trs for name in seen}
    if settings.split.kind == "stimuli":
        return split_stimuli(usable, settings.split.val_stimuli)
    return split_blocks(
        usable,
        settings.split.val_fraction,
        settings.split.val_blocks,
        gap_trs(settings.split.gap_seconds, dataset.manifest.tr_seconds),
    )


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
