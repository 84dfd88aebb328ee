"""The files of one checkpoint: written, checked, and read::

model.safetensors           weights and BatchNorm statistics; the record says where each tensor
head-1-of-4.safetensors     lies: those of a head that workers share out in several files, each
                            written by one of them, by ranges of units
optimizer-model.safetensors, optimizer-head-1-of-4.safetensors
                            AdamW's numbers for them, exp_avg/NAME, exp_avg_sq/NAME and step/NAME,
                            to train on; of a model that is fitted at once, none
normalisation.safetensors   how BOLD was z-scored: mean_SV, std_SV, valid_SV
space-NAME                  what the spaces of its units are made of, such as a mask
voxels.safetensors          validation scores per unit: pearson_V, r2_V, or those of each subject
                            where their units differ: pearson_V/01, ...  (after an epoch)
record.json                 what was trained on what, where in the training it was saved, and the
                            checksums of the other files; written last
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from giblet_ray.checkpoint.damage import file_checksum
from giblet_ray.checkpoint.pieces import (
    MOMENTS,
    OF_OPTIMIZER,
    STEP,
    Files,
    Moments,
    is_of_optimizer,
    opened_pieces,
)
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
from giblet_ray.errors import InputError, one_line
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.models.predictor import Predictor
from giblet_ray.models.shards import UnitShards
from giblet_ray.spaces.kinds import open_space
from giblet_ray.spaces.space import Space

NORMALISATION = "normalisation.safetensors"
VOXELS = "voxels.safetensors"


def save_state(folder: Path, files: Files) -> dict[str, str]:
    """Write a rank's files of weights and optimizer; return their checksums by name.

    Raises
    ------
    InputError
        If there is no room for them.
    """
    with writing(folder, "a checkpoint"):
        for name, tensors in files.items():
            save_file({key: of.contiguous() for key, of in tensors.items()}, folder / name)
        return {name: file_checksum(folder / name) for name in files}


def save_checkpoint(
    folder: Path,
    pieces: Mapping[str, tuple[Piece, ...]],
    checksums: Mapping[str, str],
    position: Position,
    normalisation: Normalisation,
    space: Mapping[str, bytes],
    run: RunRecord,
    held_out: HeldOutScores | None,
    unsent: Sequence[Any],
) -> None:
    """Write what a checkpoint has beside weights and optimizer, its record last.

    Parameters
    ----------
    folder : Path
        Where to.
    pieces, checksums
        Of the files of weights and optimizer, those of all ranks: :func:`weight_pieces`, and what
        :func:`save_state` has returned.
    position, normalisation
        The state of the training.
    space, run
        As :func:`giblet_ray.training.loop.train` takes them.
    held_out : HeldOutScores or None
        Held-out scores, if the checkpoint ends an epoch.
    unsent : sequence
        Points of the curves that are recorded nowhere else yet, as JSON holds them.

    Raises
    ------
    InputError
        If there is no room for it.
    """
    files = {
        NORMALISATION: {
            "mean_SV": torch.from_numpy(normalisation.mean_SV),
            "std_SV": torch.from_numpy(normalisation.std_SV),
            "valid_SV": torch.from_numpy(normalisation.valid_SV),
        }
    }
    if held_out is not None:
        files[VOXELS] = {name: torch.from_numpy(of) for name, of in held_out.arrays().items()}
    known = {**checksums, **save_state(folder, files)}
    with writing(folder, "a checkpoint"):
        for name, content in space.items():
            (folder / name).write_bytes(content)
            known[name] = file_checksum(folder / name)
    # Last: a folder without it is no checkpoint.
    write_record(
        folder,
        Record(
            **dict(run),
            scans=normalisation.scans,
            position=position,
            score=None if held_out is None else position.history[-1][run.chosen_by.name],
            unsent=list(unsent),
            weights=dict(pieces),
            checksums=dict(sorted(known.items())),
        ),
    )


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Raise an InputError where something cannot be written into a folder."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder}: {what} cannot be written here: {one_line(error)}; free some room, or set "
            "TMPDIR to a folder that has more"
        ) from error


def restore_checkpoint(
    folder: Path,
    run: RunRecord,
    model: Predictor,
    moments: Moments,
    shards: UnitShards | None = None,
) -> Position:
    """Load weights and optimizer in their place, and return where the training stood.

    Files are mapped, and read tensor by tensor: several ranks of a node share their pages, and a
    rank reads the units that it has, of however many files.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the checkpoint is of another run than `run`.
    """
    record = read_record(folder)
    check_same_run(record, run)
    units = model.head_units if shards is not None else {}
    own = {name: shards.bounds(n) for name, n in units.items()} if shards is not None else {}
    try:
        if not any(map(is_of_optimizer, record.checksums)):
            raise RuntimeError("it has nothing of the optimizer")
        with opened_pieces(folder, record) as weights:
            state = model.state_dict()
            if differ := sorted(state.keys() ^ record.weights.keys()):
                raise RuntimeError(f"{', '.join(differ)}: in the model or in its files alone")
            for name, tensor in state.items():
                weights.fill(tensor, name, own.get(name))
        with opened_pieces(folder, record, OF_OPTIMIZER) as kept:
            for name, parameter in model.named_parameters():
                if (step := kept.step(name)) is None:
                    continue
                of_optimizer = {what: torch.empty_like(parameter) for what in MOMENTS}
                for what, tensor in of_optimizer.items():
                    kept.fill(tensor.detach(), name, own.get(name), what)
                # A copy: no mapped file is held on to.
                of_optimizer[STEP] = step.clone().to(parameter.device)
                moments[parameter] = of_optimizer
    except torch.OutOfMemoryError:  # no fault of the checkpoint's
        raise
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
        raise InputError(
            f"{folder}: not a complete checkpoint of this run: {one_line(error)}"
        ) from error
    return record.position


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
        raise InputError(f"{folder / NORMALISATION}: cannot be read: {one_line(error)}") from error
    of_scans = [scan.subject for scan in record.scans]
    return valid_SV[[of_scans.index(subject) for subject in record.dataset.subjects]]
