"""Saving a training so that it can go on as if it had never stopped."""

from __future__ import annotations

import json
import pickle
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
    CHECKSUMS,
    NORMALISATION,
    RECORD,
    STATE,
    VOXELS,
    WEIGHTS,
    best_of,
    checkpoint_names,
    damage,
    file_checksum,
    sound_records,
)

_KEPT = 2
"""Latest checkpoints that are kept, beside the best: if one is damaged, there is one before it."""
_NAME = re.compile(r"epoch-(?P<epoch>[0-9]{4,})-step-(?P<step>[0-9]{7,})")


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

    @property
    def name(self) -> str:
        """Folder of the checkpoint that is saved here."""
        return f"epoch-{self.epoch:04d}-step-{self.step:07d}"


def save_checkpoint(
    folder: Path,
    model: MultimodalEncoder,
    optimizer: Optimizer,
    schedule: LRScheduler,
    position: Position,
    normalisation: Normalisation,
    record: dict[str, Any],
    voxels: VoxelMetrics | None,
    unsent: Sequence[Any],
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
    unsent : sequence
        Points of the curves that are recorded nowhere else yet, as JSON holds them.

    Raises
    ------
    InputError
        If there is no room for it.
    """
    try:
        _write_state(folder, model, optimizer, schedule, normalisation, voxels)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder}: a checkpoint cannot be written here: {reason}; free some room, or set "
            "TMPDIR to a folder that has more"
        ) from error
    score = position.history[-1]["val/pearson_mean"] if voxels is not None else None
    scans = [[scan.subject, scan.stimulus] for scan in normalisation.scans]
    content = {
        **record,
        "position": asdict(position),
        "score": score,
        "scans": scans,
        "unsent": list(unsent),
        CHECKSUMS: {path.name: file_checksum(path) for path in sorted(folder.iterdir())},
    }
    # Last: a folder without it is no checkpoint.
    (folder / RECORD).write_text(json.dumps(content, indent=1))


def _write_state(
    folder: Path,
    model: MultimodalEncoder,
    optimizer: Optimizer,
    schedule: LRScheduler,
    normalisation: Normalisation,
    voxels: VoxelMetrics | None,
) -> None:
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    save_file(
        {
            "mean_SV": torch.from_numpy(normalisation.mean_SV),
            "std_SV": torch.from_numpy(normalisation.std_SV),
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
        return Position(**json.loads((folder / RECORD).read_text())["position"])
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: not a complete checkpoint of this run: {reason}") from error


def keep_checkpoint(storage: Storage, run: str, folder: Path, name: str) -> None:
    """Store a checkpoint below a run's folder; keep it, the one before it and the best."""
    storage.store(folder, f"{run}/{name}", last=RECORD)
    drop_checkpoints(storage, run, keep=_KEPT)


def drop_checkpoints(storage: Storage, run: str, keep: int = 0) -> None:
    """Delete a run's checkpoints but for the best and the latest `keep`, and what is incomplete.

    Only one process may write checkpoints of a run at a time.
    """
    found = {posixpath.dirname(name) for name in storage.names(run)}
    folders = {name for name in found if _NAME.fullmatch(posixpath.basename(name))}
    records = sound_records(storage, run)
    kept = {*_newest_first(records)[:keep], best_of(records)}
    for name in folders - kept:
        storage.delete(f"{name}/{RECORD}")  # first: a folder without it is no checkpoint
        storage.delete_folder(name)


def _newest_first(names: Iterable[str]) -> list[str]:
    """Return the paths of checkpoints by their step."""

    def step(name: str) -> int:
        found = _NAME.fullmatch(posixpath.basename(name))
        return int(found["step"]) if found else -1

    return sorted(names, key=step, reverse=True)


@contextmanager
def open_latest(
    storage: Storage,
    run: str,
    open_folder: Callable[[str], AbstractContextManager[str]],
    show: Callable[[str], None],
) -> Iterator[str | None]:
    """Find a run's latest checkpoint that is whole, and keep it open.

    Parameters
    ----------
    storage, run : Storage, str
        Where the run is.
    open_folder : callable
        Gives a local folder with the files of a checkpoint's path.
    show : callable
        Is told of every checkpoint that is passed over.

    Yields
    ------
    str or None
        Path of the checkpoint below the storage; None if the run has none yet.

    Raises
    ------
    InputError
        If none of several is whole.
    """
    names = _newest_first(checkpoint_names(storage, run))
    for name in names:
        with open_folder(name) as folder:
            problem = damage(Path(folder))
            if problem is None:
                yield name
                return
        show(f"{problem}; going back to the checkpoint before it")
    if names:
        raise InputError(
            f"{storage.describe(run)}: none of its {len(names)} checkpoints is whole: delete the "
            "folder to train anew, or give another --name"
        )
    yield None


def latest_record(storage: Storage, run: str) -> dict[str, Any] | None:
    """Return the record of a run's latest checkpoint, or None if it has none."""
    records = sound_records(storage, run)
    names = _newest_first(records)
    return records[names[0]] if names else None


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
