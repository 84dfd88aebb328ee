"""Saving a training so that it can go on as if it had never stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.metrics import VoxelMetrics
from giblet_ray.models.encoder import MultimodalEncoder
from giblet_ray.models.trained import (
    NORMALISATION,
    RECORD,
    STATE,
    VOXELS,
    WEIGHTS,
    best_of,
    checkpoint_records,
)


@dataclass
class Position:
    """How far a training has come; with the seed, all that its random numbers depend on.

    The order of the data is a function of (seed, epoch), dropout one of (seed, step, rank): there
    is no hidden random state to lose.
    """

    epoch: int = 0
    """Epochs that are complete."""
    step_in_epoch: int = 0
    """Steps done in the epoch under way."""
    step: int = 0
    """Optimiser steps done in all."""
    best_score: float | None = None
    """Highest ``val/pearson_mean`` so far."""
    best_epoch: int = 0
    """Epoch (from 1) that reached it."""
    loss_sums: dict[str, float] = field(default_factory=dict)
    """Losses of the epoch under way, each times its windows, and the windows (``windows``)."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Metrics of every complete epoch."""


def save_checkpoint(
    folder: Path,
    model: MultimodalEncoder,
    optimizer: Optimizer,
    schedule: LRScheduler,
    position: Position,
    normalisation: Normalisation,
    record: dict[str, Any],
    voxels: VoxelMetrics | None,
) -> None:
    """Write a checkpoint into an empty folder.

    Parameters
    ----------
    folder : Path
        Where to.
    model, optimizer, schedule, position, normalisation
        The state of the training.
    record : dict
        Configuration and data set, as JSON holds them.
    voxels : VoxelMetrics or None
        Held-out scores, if the checkpoint ends an epoch.
    """
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    save_file(
        {
            "mean_RV": torch.from_numpy(normalisation.mean_RV),
            "std_RV": torch.from_numpy(normalisation.std_RV),
            "valid_V": torch.from_numpy(normalisation.valid_V),
        },
        folder / NORMALISATION,
    )
    if voxels is not None:
        scores = {"pearson_V": voxels.pearson_V, "r2_V": voxels.r2_V}
        save_file({k: torch.from_numpy(v) for k, v in scores.items()}, folder / VOXELS)
    torch.save(
        {
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        },
        folder / STATE,
    )
    score = position.history[-1]["val/pearson_mean"] if voxels is not None else None
    runs = [[run.subject, run.stimulus] for run in normalisation.runs]
    content = {**record, "position": asdict(position), "score": score, "runs": runs}
    # Last: a folder without it is no checkpoint.
    (folder / RECORD).write_text(json.dumps(content, indent=1))


def restore_checkpoint(
    folder: Path, model: MultimodalEncoder, optimizer: Optimizer, schedule: LRScheduler
) -> Position:
    """Load weights, optimizer and schedule, and return where the training stood.

    Files are mapped, not read into memory first: several ranks of a node share their pages.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    device = next(model.parameters()).device
    try:
        model.load_state_dict(load_file(folder / WEIGHTS, device=str(device)))
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True, mmap=True)
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: not a complete checkpoint of this run: {reason}") from error
    return Position(**json.loads((folder / RECORD).read_text())["position"])


def keep_checkpoint(storage: Storage, run: str, folder: Path, name: str) -> None:
    """Store a checkpoint below a run's folder; of those before it, keep the best alone."""
    storage.store(folder, f"{run}/{name}", last=RECORD)
    drop_checkpoints(storage, run, keep=f"{run}/{name}")


def drop_checkpoints(storage: Storage, run: str, keep: str | None = None) -> None:
    """Delete a run's checkpoints but for the best, and the one to `keep`."""
    records = checkpoint_records(storage, run)
    for name in records.keys() - {best_of(records), keep}:
        storage.delete(f"{name}/{RECORD}")  # first: a folder without it is no checkpoint
        storage.delete_folder(name)


def latest_checkpoint(storage: Storage, run: str) -> Path | None:
    """Return a local folder with a run's latest checkpoint, or None if it has none."""
    latest = _latest(storage, run)
    return None if latest is None else storage.fetch(latest[0])


def latest_record(storage: Storage, run: str) -> dict[str, Any] | None:
    """Return the record of a run's latest checkpoint, or None if it has none."""
    latest = _latest(storage, run)
    return None if latest is None else latest[1]


def _latest(storage: Storage, run: str) -> tuple[str, dict[str, Any]] | None:
    records = checkpoint_records(storage, run).items()
    return max(records, key=lambda item: item[1]["position"]["step"], default=None)


def epoch_history(storage: Storage, run: str) -> list[dict[str, float]]:
    """Return the metrics of every epoch of a run, as its latest checkpoint has them."""
    record = latest_record(storage, run)
    return [] if record is None else Position(**record["position"]).history


def load_voxel_pearson(folder: Path) -> np.ndarray:
    """Return held-out Pearson r per voxel, shape (voxels,), NaN where not scored."""
    return load_file(folder / VOXELS)["pearson_V"].numpy()


def load_valid_voxels(folder: Path) -> np.ndarray:
    """Return which voxels took part in training, bool (voxels,).

    Raises
    ------
    InputError
        If the file that says so is gone or damaged.
    """
    try:
        return load_file(folder / NORMALISATION)["valid_V"].numpy()
    except (OSError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / NORMALISATION}: cannot be read: {reason}") from error
