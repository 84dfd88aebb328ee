"""The files of one checkpoint: written, checked, and read::

model.safetensors           weights and BatchNorm statistics; the record says where each tensor
                            lies, which may be in several files, by ranges of units
normalisation.safetensors   how BOLD was z-scored: mean_SV, std_SV, valid_SV
space-NAME                  what the spaces of its units are made of, such as a mask
voxels.safetensors          validation scores per unit: pearson_V, r2_V, or those of each subject
                            where their units differ: pearson_V/01, ...  (after an epoch)
state.pt                    optimizer and schedule, to train on (loaded with weights_only); of a
                            model that is fitted at once, none
record.json                 what was trained on what, where in the training it was saved, and the
                            checksums of the other files; written last
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from giblet_ray.checkpoint.damage import file_checksum
from giblet_ray.checkpoint.record import (
    Piece,
    Position,
    Record,
    RunRecord,
    SpaceRecord,
    check_same_run,
    read_record,
    write_record,
)
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.errors import InputError
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.models.predictor import Predictor
from giblet_ray.spaces.kinds import open_space
from giblet_ray.spaces.space import Space

WEIGHTS = "model.safetensors"
NORMALISATION = "normalisation.safetensors"
VOXELS = "voxels.safetensors"
STATE = "state.pt"
"""What only training needs."""


def save_checkpoint(
    folder: Path,
    model: Predictor,
    optimizer: Optimizer | None,
    schedule: LRScheduler | None,
    position: Position,
    normalisation: Normalisation,
    space: Mapping[str, bytes],
    run: RunRecord,
    held_out: HeldOutScores | None,
    unsent: Sequence[Any],
) -> None:
    """Write a checkpoint into an empty folder.

    Parameters
    ----------
    folder : Path
        Where to.
    model, optimizer, schedule, position, normalisation
        The state of the training; of a model that is fitted at once, no optimizer nor schedule.
    space : mapping of str to bytes
        What the spaces of the units are made of: content by the checkpoint's file.
    run : RunRecord
        What is trained on what.
    held_out : HeldOutScores or None
        Held-out scores, if the checkpoint ends an epoch.
    unsent : sequence
        Points of the curves that are recorded nowhere else yet, as JSON holds them.

    Raises
    ------
    InputError
        If there is no room for it.
    """
    with writing(folder, "a checkpoint"):
        _write_state(folder, model, optimizer, schedule, normalisation, held_out)
        for name, content in space.items():
            (folder / name).write_bytes(content)
    # Last: a folder without it is no checkpoint.
    write_record(
        folder,
        Record(
            **dict(run),
            scans=normalisation.scans,
            position=position,
            score=None if held_out is None else position.history[-1][run.chosen_by.name],
            unsent=list(unsent),
            weights={name: (Piece(file=WEIGHTS),) for name in model.state_dict()},
            checksums={path.name: file_checksum(path) for path in sorted(folder.iterdir())},
        ),
    )


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Raise an InputError where something cannot be written into a folder."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder}: {what} cannot be written here: {reason}; free some room, or set "
            "TMPDIR to a folder that has more"
        ) from error


def _write_state(
    folder: Path,
    model: Predictor,
    optimizer: Optimizer | None,
    schedule: LRScheduler | None,
    normalisation: Normalisation,
    held_out: HeldOutScores | None,
) -> None:
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    save_file(
        {
            "mean_SV": torch.from_numpy(normalisation.mean_SV),
            "std_SV": torch.from_numpy(normalisation.std_SV),
            "valid_SV": torch.from_numpy(normalisation.valid_SV),
        },
        folder / NORMALISATION,
    )
    if held_out is not None:
        scores = held_out.arrays()
        save_file({k: torch.from_numpy(v) for k, v in scores.items()}, folder / VOXELS)
    if optimizer is not None and schedule is not None:
        state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save(state, folder / STATE)


def restore_checkpoint(
    folder: Path,
    run: RunRecord,
    model: Predictor,
    optimizer: Optimizer,
    schedule: LRScheduler,
) -> Position:
    """Load weights, optimizer and schedule, and return where the training stood.

    Files are mapped, not read into memory first: several ranks of a node share their pages.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the checkpoint is of another run than `run`.
    """
    record = read_record(folder)
    check_same_run(record, run)
    device = next(model.parameters()).device
    try:
        model.load_state_dict(load_weights(folder, record, str(device)))
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True, mmap=True)
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
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
    return record.position


def load_weights(folder: Path, record: Record, device: str = "cpu") -> dict[str, Tensor]:
    """Return the weights of a local checkpoint, by name in the model.

    A tensor that lies in one piece stays mapped; one of several is put together from their units.

    Raises
    ------
    OSError, SafetensorError, RuntimeError
        If a file is missing or damaged, or a piece is not of the units that the record says.
    """
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(safe_open(folder / name, framework="pt", device=device))
            for name in record.weight_files
        }
        weights = {}
        for name, pieces in record.weights.items():
            parts = [files[piece.file].get_tensor(name) for piece in pieces]
            for piece, part in zip(pieces, parts, strict=True):
                if piece.units is not None and len(part) != piece.units[1] - piece.units[0]:
                    raise RuntimeError(f"{piece.file}: {name} has {len(part)} units: {piece.units}")
            weights[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return weights


def load_space(folder: Path, record: SpaceRecord, where: str) -> Space:
    """Return what the units of a local checkpoint's data set are.

    Raises
    ------
    InputError
        If there is no such space, or its files are of none; `where` names the checkpoint.
    """
    files = {name: (folder / file).read_bytes() for name, file in record.files.items()}
    return open_space(record.kind, files, record.n_units, where)


def load_voxel_pearson(folder: Path) -> np.ndarray:
    """Return validation Pearson r per unit, shape (units,), NaN where not scored.

    Where the units of subjects differ, they are those of one after another.
    """
    return all_pearson({name: r.numpy() for name, r in load_file(folder / VOXELS).items()})


def all_pearson(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return r of all units that the content of :data:`VOXELS` is of, one after another."""
    return np.concatenate([r for name, r in sorted(scores.items()) if name.startswith("pearson_V")])


def load_valid_voxels(folder: Path, record: Record) -> np.ndarray:
    """Return which voxels took part in each subject's training, bool (subjects, voxels).

    Raises
    ------
    InputError
        If the file that says so is gone or damaged.
    """
    try:
        valid_SV = load_file(folder / NORMALISATION)["valid_SV"].numpy()
    except (OSError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder / NORMALISATION}: cannot be read: {reason}") from error
    of_scans = [scan.subject for scan in record.scans]
    return valid_SV[[of_scans.index(subject) for subject in record.dataset.subjects]]
