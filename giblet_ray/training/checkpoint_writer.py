"""Checkpoints, written while training goes on.

::

    loop      step step [copy] step step step [copy] step step
    thread                write, store ------>      write, store ---->

A copy of weights and optimizer is taken between two steps; a thread writes it. Where workers share
out the head, each writes its own units, and rank 0 the record, last, once it knows of all files: a
kill at any moment leaves the checkpoint before. Metrics are logged when the copy is taken: a
training that is killed before it is written logs them once more. Torch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giblet_ray.checkpoint.files import save_checkpoint, save_state
from giblet_ray.checkpoint.pieces import Files, Moments, state_files, weight_pieces
from giblet_ray.checkpoint.record import Position, RunRecord
from giblet_ray.checkpoint.scratch import scratch_folder
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.errors import InputError, one_line
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.models.predictor import Predictor
from giblet_ray.models.shards import UnitShards
from giblet_ray.training.config import CHECKPOINTS_UNDER_WAY

if TYPE_CHECKING:
    from giblet_ray.training.loop import Link


class CheckpointWriter:
    """Writes the checkpoints of a training; all ranks call it together.

    As a context it ends once all that is under way is written.

    Parameters
    ----------
    model : Predictor
        What is saved.
    moments : Moments
        What the optimizer keeps; nothing of a model that is fitted at once.
    normalisation, space, run, link
        As :func:`giblet_ray.training.loop.train` takes them.
    shards : UnitShards, optional
        Which units are whose, where the ranks share out the head.
    """

    def __init__(
        self,
        model: Predictor,
        moments: Moments,
        normalisation: Normalisation,
        space: Mapping[str, bytes],
        run: RunRecord,
        link: Link,
        shards: UnitShards | None = None,
    ) -> None:
        self._pieces = weight_pieces(model, shards)
        self._state = partial(state_files, model, moments, self._pieces, link.rank)
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
        self._wait_until(CHECKPOINTS_UNDER_WAY - 1)
        while self._shards is None and self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()  # what went wrong is told as soon as it is known
        rest = None
        if self._link.rank == 0:
            rest = partial(
                self._rest,
                position=position.model_copy(deep=True),
                held_out=held_out,
                unsent=[*self._link.unsent()],
            )
        copied = copy_to_host(self._state())
        self._under_way.append(self._thread.submit(self._write, copied, rest, position.name))
        if self._link.awaits_checkpoints:
            self._wait_until(0)

    def _wait_until(self, n: int) -> None:
        """Wait until no more than `n` are under way."""
        while len(self._under_way) > n:
            self._under_way.pop(0).result()

    def _write(self, copied: Files, rest: Callable[..., None] | None, name: str) -> None:
        with scratch_folder() as folder:
            of_ranks = self._together(lambda: self._write_state(folder, copied, name))
            checksums = {file: told for of_rank in of_ranks for file, told in of_rank.items()}
            self._together(lambda: self._write_rest(folder, rest, checksums, name))

    def _write_state(self, folder: Path, copied: Files, name: str) -> dict[str, str]:
        """Write this rank's files; return their checksums."""
        checksums = save_state(folder, copied)
        if self._link.rank > 0:
            self._link.keep(folder, name)
        return checksums

    def _write_rest(
        self,
        folder: Path,
        rest: Callable[..., None] | None,
        checksums: Mapping[str, str],
        name: str,
    ) -> dict[str, str]:
        """Write what rank 0 alone writes, and the record."""
        if rest is not None:
            rest(folder, self._pieces, checksums)
            self._link.keep(folder, name)
        return {}

    def _together(self, work: Callable[[], dict[str, str]]) -> list[dict[str, str]]:
        """Do a rank's part of what all do, and return what they found; all fail if one does."""
        if self._shards is None:
            return [work()]
        failure, found = None, {}
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - raised below, once the others know of it
            failure = error
        is_input, words = isinstance(failure, InputError), failure and one_line(failure)
        told = self._shards.of_writers((is_input, words, found))
        if failure is not None:
            raise failure
        for of_input, problem, _ in told:
            if problem is not None:
                raise (InputError if of_input else RuntimeError)(problem)
        return [each for _, _, each in told]


def copy_to_host(files: Files) -> Files:
    """Return a copy of tensors in the host's memory."""
    return {
        file: {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        for file, tensors in files.items()
    }
