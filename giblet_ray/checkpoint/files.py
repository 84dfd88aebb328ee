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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

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
from giblet_ray.models.shards import UnitShards
from giblet_ray.spaces.kinds import open_space
from giblet_ray.spaces.space import Space

WEIGHTS = "model.safetensors"
NORMALISATION = "normalisation.safetensors"
VOXELS = "voxels.safetensors"
_OF_OPTIMIZER = "optimizer-"
"""What begins the names of files that only training needs."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for each number of a parameter."""
_STEP = "step"
"""How many steps it has taken, a scalar."""

Files = dict[str, dict[str, Tensor]]
"""Tensors by their name, by the name of their file."""


def is_of_optimizer(name: str) -> bool:
    """Whether only training needs a checkpoint's file."""
    return name.startswith(_OF_OPTIMIZER)


def state_files(
    model: Predictor, optimizer: Optimizer | None, shards: UnitShards | None = None
) -> Files:
    """Return what a rank has of a training's weights and optimizer, by file; nothing is copied.

    Without shards it is all there is, as every rank has it.
    """
    pieces = weight_pieces(model, shards)
    rank = 0 if shards is None else shards.rank
    mine = {
        name: of[rank].file if len(of) > 1 else of[0].file
        for name, of in pieces.items()
        if len(of) > 1 or rank == 0
    }
    files: Files = {}
    for name, tensor in model.state_dict().items():
        if name in mine:
            files.setdefault(mine[name], {})[name] = tensor
    for name, parameter in model.named_parameters():
        state = {} if optimizer is None else optimizer.state.get(parameter, {})
        if name in mine and state:
            of_file = files.setdefault(f"{_OF_OPTIMIZER}{mine[name]}", {})
            of_file |= {_key(name, what): state[what] for what in (*_MOMENTS, _STEP)}
    return files


def weight_pieces(model: Predictor, shards: UnitShards | None) -> dict[str, tuple[Piece, ...]]:
    """Return in which files each tensor of a model lies, by its name."""
    pieces: dict[str, tuple[Piece, ...]] = {
        name: (Piece(file=WEIGHTS),) for name in model.state_dict()
    }
    if shards is None:
        return pieces
    for name, n_units in model.head_units.items():
        pieces[name] = tuple(
            Piece(
                file=f"head-{rank + 1}-of-{shards.world_size}.safetensors",
                units=shards.bounds(n_units, rank),
            )
            for rank in range(shards.world_size)
        )
    return pieces


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
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder}: {what} cannot be written here: {reason}; free some room, or set "
            "TMPDIR to a folder that has more"
        ) from error


def restore_checkpoint(
    folder: Path,
    run: RunRecord,
    model: Predictor,
    optimizer: Optimizer,
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
        with opened_pieces(folder, record, _OF_OPTIMIZER) as moments:
            for name, parameter in model.named_parameters():
                if (step := moments.step(name)) is None:
                    continue
                of_optimizer = {what: torch.empty_like(parameter) for what in _MOMENTS}
                for what, tensor in of_optimizer.items():
                    moments.fill(tensor.detach(), name, own.get(name), what)
                # A copy: no mapped file is held on to.
                of_optimizer[_STEP] = step.clone().to(parameter.device)
                optimizer.state[parameter] = of_optimizer
    except (OSError, RuntimeError, KeyError, SafetensorError) as error:
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
    with opened_pieces(folder, record, device=device) as pieces:
        return {name: pieces.read(name) for name in record.weights}


def _key(name: str, what: str) -> str:
    return f"{what}/{name}" if what else name


class Pieces:
    """Tensors of a local checkpoint, each read from the pieces that it lies in.

    Parameters
    ----------
    record : Record
        Of the checkpoint.
    files : mapping of str to safe_open
        The files that are there, by the name that the record has for those of weights.
    """

    def __init__(self, record: Record, files: Mapping[str, Any]) -> None:
        self._record, self._files = record, files
        self._keys = {name: frozenset(file.keys()) for name, file in files.items()}

    def step(self, name: str) -> Tensor | None:
        """Return how many steps a parameter has taken, a scalar; None: it was never used."""
        first, key = self._record.weights[name][0].file, _key(name, _STEP)
        return self._files[first].get_tensor(key) if key in self._keys.get(first, ()) else None

    def read(self, name: str) -> Tensor:
        """Return a tensor; one that lies in one piece stays mapped.

        Raises
        ------
        RuntimeError, SafetensorError
            If it is not there, or a piece is not of the units that the record says.
        """
        parts = [*self._parts(name, None, "")]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.no_grad()
    def fill(
        self, tensor: Tensor, name: str, units: tuple[int, int] | None = None, what: str = ""
    ) -> None:
        """Read a tensor, or what the optimizer has for it, in its place.

        Parameters
        ----------
        tensor : Tensor
            What is filled.
        name : str
            Of the tensor, in the model.
        units : (int, int), optional
            The units [start, stop) that are read, along its first axis (default: all).
        what : str
            What of the optimizer's is read, such as ``exp_avg``.

        Raises
        ------
        RuntimeError, SafetensorError
            As :meth:`read`; also for another shape.
        """
        done = 0
        for part in self._parts(name, units, what):
            into = tensor[done : done + len(part)] if tensor.dim() and part.dim() else tensor
            if into.shape != part.shape:
                found, wanted = tuple(part.shape), tuple(into.shape)
                raise RuntimeError(f"{name} has shape {found}, {wanted} is expected")
            into.copy_(part)
            done += len(part) if part.dim() else 0
        if tensor.dim() and done != len(tensor):
            raise RuntimeError(f"{name} has {done} units, {len(tensor)} are expected")

    def _parts(self, name: str, units: tuple[int, int] | None, what: str) -> Iterator[Tensor]:
        """Yield what the pieces of a tensor have, or of some of its units, in their order."""
        key = _key(name, what)
        for piece in self._record.weights[name]:
            file = self._files[piece.file]
            if piece.units is None and units is None:
                yield file.get_tensor(key)
                continue
            part = file.get_slice(key)
            n_units = part.get_shape()[0]
            first, stop = piece.units or (0, n_units)
            if n_units != stop - first:
                raise RuntimeError(f"{piece.file}: {name} has {n_units} units: {piece.units}")
            start, end = units or (first, stop)
            start, end = max(first, start), min(stop, end)
            if start < end:
                yield part[start - first : end - first]


@contextmanager
def opened_pieces(
    folder: Path, record: Record, prefix: str = "", device: str = "cpu"
) -> Iterator[Pieces]:
    """Open a local checkpoint's files of weights, or those beside them whose names begin so."""
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(safe_open(folder / found, framework="pt", device=device))
            for name in record.weight_files
            for found in [f"{prefix}{name}"]
            if found in record.checksums
        }
        yield Pieces(record, files)


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
