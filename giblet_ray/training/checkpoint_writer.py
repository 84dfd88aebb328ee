"""Checkpoints, written while training goes on.

::

    loop      step step [copy] step step step [copy] step step
    thread                write, store ------>      write, store ---->

A copy of weights and optimizer is taken between two steps; a thread writes it. Where workers share
out the head, each writes its own units, and rank 0 the record, last, once it knows of all files: a
kill at any moment leaves the checkpoint before. Torch alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from giblet_ray.checkpoint.files import (
    Files,
    save_checkpoint,
    save_state,
    state_files,
    weight_pieces,
)
from giblet_ray.checkpoint.record import Position, RunRecord
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.errors import InputError
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.models.predictor import Predictor
from giblet_ray.models.shards import UnitShards

if TYPE_CHECKING:
    from giblet_ray.training.loop import Link

_UNDER_WAY = 2
"""Checkpoints that may be under way; with a third, training waits. Each is a copy in memory."""


class CheckpointWriter:
    """Writes the checkpoints of a training; all ranks call it together.

    As a context it ends once all that is under way is written.

    Parameters
    ----------
    model, optimizer : Predictor, Optimizer or None
        What is saved; of a model that is fitted at once, no optimizer.
    normalisation : Normalisation
        How BOLD is z-scored.
    space : mapping of str to bytes
        What the space of the units is made of.
    run : RunRecord
        What is trained on what.
    link : Link
        Keeps the files.
    shards : UnitShards, optional
        Which units are whose, where the ranks share out the head.
    """

    def __init__(
        self,
        model: Predictor,
        optimizer: Optimizer | None,
        normalisation: Normalisation,
        space: Mapping[str, bytes],
        run: RunRecord,
        link: Link,
        shards: UnitShards | None = None,
    ) -> None:
        self._state = partial(state_files, model, optimizer, shards)
        self._pieces = weight_pieces(model, shards)
        self._rest = partial(save_checkpoint, normalisation=normalisation, space=space, run=run)
        self._link, self._shards = link, shards
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._thread.shutdown()
        if raised[0] is None:
            self._wait_until(0)

    def save(self, position: Position, held_out: HeldOutScores | None = None) -> None:
        """Copy the state of the training, and write it soon.

        Parameters
        ----------
        position : Position
            How far it has come.
        held_out : HeldOutScores, optional
            If it ends an epoch.

        Raises
        ------
        InputError
            If an earlier one could not be written, or this one, where that is waited for.
        """
        if self._link.rank > 0 and self._shards is None:
            return
        self._wait_until(_UNDER_WAY - 1)
        rest = None
        if self._link.rank == 0:
            rest = partial(
                self._rest,
                position=position.model_copy(deep=True),
                held_out=held_out,
                unsent=[*self._link.unsent()],
            )
        copied = Copy(self._state())
        self._under_way.append(self._thread.submit(self._write, copied, rest, position.name))
        if self._link.awaits_checkpoints:
            self._wait_until(0)

    def _wait_until(self, n: int) -> None:
        """Wait until no more than `n` are under way."""
        while len(self._under_way) > n:
            self._under_way.pop(0).result()

    def _write(self, copied: Copy, rest: Callable[..., None] | None, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checksums = self._write_state(Path(folder), copied, name)
            problem = None
            if rest is not None:
                try:
                    rest(Path(folder), self._pieces, checksums)
                    self._link.keep(Path(folder), name)
                except InputError as error:
                    problem = str(error)
            if self._shards is not None:
                problem = self._shards.from_first(problem)
        if problem is not None:
            raise InputError(problem)

    def _write_state(self, folder: Path, copied: Copy, name: str) -> dict[str, str]:
        """Write this rank's files; return the checksums of all ranks'."""
        if self._shards is None:
            return save_state(folder, copied.files())
        problem, checksums = None, {}
        try:
            checksums = save_state(folder, copied.files())
            if self._link.rank > 0:
                self._link.keep(folder, name)
        except InputError as error:
            problem = str(error)
        told = self._shards.of_all((problem, checksums))
        for problem, _ in told:
            if problem is not None:
                raise InputError(problem)
        return {file: checksum for _, of_rank in told for file, checksum in of_rank.items()}


class Copy:
    """A copy of tensors, in the host's memory: those of a device arrive while it computes on."""

    def __init__(self, files: Files) -> None:
        self._files = {name: self._copied(tensors) for name, tensors in files.items()}
        self._arrived = None
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def files(self) -> Files:
        """Return it, once it is whole."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._files

    @staticmethod
    def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        copied = {}
        for name, tensor in tensors.items():
            on_device = tensor.device.type == "cuda"
            host = torch.empty_like(tensor, device="cpu", pin_memory=on_device)
            copied[name] = host.copy_(tensor.detach(), non_blocking=on_device)
        return copied
