"""The files of one checkpoint: written, checked, and read to train on::

model.safetensors           weights and BatchNorm statistics
normalisation.safetensors   how BOLD was z-scored: mean_SV, std_SV, valid_V
voxels.safetensors          held-out scores per voxel: pearson_V, r2_V  (after an epoch)
state.pt                    optimizer and schedule, to train on (loaded with weights_only)
record.json                 configuration, data set, where in the training it was saved, and the
                            checksums of the other files; written last
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from giblet_ray.checkpoint.record import CHECKSUMS, RECORD, Position, read_record, record_score
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.errors import InputError
from giblet_ray.evaluation.metrics import VoxelMetrics
from giblet_ray.models.encoder import MultimodalEncoder

WEIGHTS = "model.safetensors"
NORMALISATION = "normalisation.safetensors"
VOXELS = "voxels.safetensors"
STATE = "state.pt"
_HASH_BLOCK_BYTES = 4 * 2**20


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
    score = None if voxels is None else position.history[-1][record_score(record).name]
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


def file_checksum(path: Path) -> str:
    """Return the xxh3_128 of a local file, in hexadecimal."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def damage(folder: Path, names: Iterable[str] | None = None) -> str | None:
    """Say what is wrong with a local checkpoint, or return None if it is whole.

    Parameters
    ----------
    folder : Path
        Of the checkpoint.
    names : iterable of str, optional
        Files that are looked at (default: all that the record knows).
    """
    try:
        known = dict(read_record(folder)[CHECKSUMS])
    except InputError as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{folder / RECORD}: damaged: it has no checksums"
    for name in known if names is None else names:
        path = folder / name
        try:
            found = file_checksum(path)
        except FileNotFoundError:
            return f"{path}: no such file"
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"
        if found != known.get(name):
            return (
                f"{path}: damaged: checksum {found[:12]} of {path.stat().st_size:,} bytes; "
                f"its {RECORD} says {str(known.get(name))[:12]}"
            )
    return None


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
