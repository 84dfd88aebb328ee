"""Where the tensors of a checkpoint lie: in one file, or in several by ranges of units.

::

    tensor of a head   [ units 0..   |            |            ]
    files                head-1-of-3   head-2-of-3  head-3-of-3      written by a worker each
    read by two        [ rank 0            |  rank 1           ]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from giblet_ray.checkpoint.record import Piece, Record
from giblet_ray.models.predictor import Predictor
from giblet_ray.models.shards import UnitShards

WEIGHTS = "model.safetensors"
OF_OPTIMIZER = "optimizer-"
"""What begins the names of files that only training needs."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for each number of a parameter."""
STEP = "step"
"""How many steps it has taken, a scalar."""
Moments = MutableMapping[nn.Parameter, dict[str, Tensor]]
"""Both, of each parameter that has taken a step."""

Files = dict[str, dict[str, Tensor]]
"""Tensors by their name, by the name of their file."""


def is_of_optimizer(name: str) -> bool:
    """Whether only training needs a checkpoint's file."""
    return name.startswith(OF_OPTIMIZER)


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


def state_files(
    model: Predictor, moments: Moments, pieces: Mapping[str, tuple[Piece, ...]], rank: int = 0
) -> Files:
    """Return what a rank writes of a training's weights and optimizer, by file; nothing is copied.

    `pieces` are those of :func:`weight_pieces`; what lies in one is written by rank 0.
    """
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
        state = moments.get(parameter)
        if name in mine and state:
            of_file = files.setdefault(f"{OF_OPTIMIZER}{mine[name]}", {})
            of_file |= {_key(name, what): state[what] for what in (*MOMENTS, STEP)}
    return files


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
        first, key = self._record.weights[name][0].file, _key(name, STEP)
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


def _key(name: str, what: str) -> str:
    return f"{what}/{name}" if what else name
