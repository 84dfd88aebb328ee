"""What a training says to its user, wherever its workers run, and how it is doing."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from giblet_ray.errors import InputError

_POLL_SECONDS = 0.5
_FIRST_WAIT_SECONDS, _WAIT_SECONDS = 20.0, 60.0
"""When and how often a user is told that workers are waited for."""
_OF_CONNECTIONS = re.compile(r"gloo/transport/|DistBackendError|DistNetworkError|NCCL")
"""What PyTorch says in a worker when another one is gone."""
_OF_MEMORY = "running low on memory"
"""What Ray says of a process that it has killed for the memory it took."""
_NAMESPACE = "giblet_ray"
_FREED_SECONDS = 10.0
"""Time in which Ray frees the name of a board whose driver has died."""


@dataclass(frozen=True)
class News:
    """What is new on a board: lines for the user, and whether workers train."""

    lines: list[str]
    is_training: bool


class Board:
    """Collects what workers and their controller have to say until the driver takes it.

    Parameters
    ----------
    max_failures : int
        Failures in a row, without a checkpoint between them, after which a training is given up.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures, self._failures = max_failures, 0
        self._lines: list[str] = []
        self._fatal: str | None = None
        self._traceback = ""
        self._is_training = False

    def write(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def started(self) -> None:
        """Note that the workers train."""
        self._is_training = True

    def progressed(self) -> None:
        """Note a new checkpoint: failures before it count no more."""
        self._failures = 0

    def failed(self, line: str, traceback: str) -> None:
        """Note that workers were lost or raised an error, and whether that is once too often."""
        self._is_training = False
        if self._fatal is not None:
            return
        self._failures += 1
        self._traceback = traceback
        if self._failures <= self._max_failures:
            self._lines.append(f"{line}; going on from the latest checkpoint")
        else:
            self._fatal = f"{line}; given up after {self._failures} failures in a row"

    def give_up(self, error: str) -> None:
        """Note an error that starting again would not mend; the first one counts."""
        self._fatal = self._fatal or error

    def fatal(self) -> tuple[str | None, str]:
        """Return why the training was given up, if it was, and the last failure's traceback."""
        return self._fatal, self._traceback

    def take(self) -> News:
        """Return what is new."""
        lines, self._lines = self._lines, []
        return News(lines, self._is_training)


class Failures(UserCallback):
    """Tells a board of workers that were lost, and of errors that they raised.

    Ray Train's controller imports this file for it, so that it is to import little.
    """

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(
        self, run_context: Any, worker_exceptions: Mapping[int, BaseException]
    ) -> None:
        """See :class:`ray.train.UserCallback`."""
        # One dead worker makes the others fail: it is the one to tell of.
        lost = [r for r, error in worker_exceptions.items() if _is_of_process(error)]
        rank = min(lost or worker_exceptions)
        error = worker_exceptions[rank]
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if lost and _OF_MEMORY in str(error):
            line = f"worker {rank} was lost: its machine ran out of memory"
        elif lost:
            line = f"worker {rank} was lost"
        elif _OF_CONNECTIONS.search(str(error)):
            # Ray Train has not looked at the dead worker yet.
            line = f"worker {rank} lost its connection to another"
        else:
            line = f"worker {rank} failed: {lines[-1]}"
        ray.get(self._board.failed.remote(line, "".join(traceback.format_exception(error))))


def _is_of_process(error: BaseException) -> bool:
    """Tell the end of a worker's process from an error that was raised in it."""
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


@contextmanager
def claimed_board(run: str, max_failures: int) -> Iterator[Any]:
    """Start the board of a run or sweep, which no other job may work on while the block runs.

    Parameters
    ----------
    run : str
        Full path of the run's folder.
    max_failures : int
        See :class:`Board`.

    Raises
    ------
    InputError
        If another job works on it.
    """
    board = _make_board(run, max_failures)
    try:
        yield board
    finally:
        ray.kill(board)


@contextmanager
def shown_board(
    board: Any, show: Callable[[str], None], what_is_missing: Callable[[], str]
) -> Iterator[None]:
    """Show what is written on a board while the block runs, and that workers are waited for.

    Parameters
    ----------
    board : ActorHandle
        A :class:`Board`.
    show : callable
        Is given each line that the user should see.
    what_is_missing : callable
        Says what workers wait for, while none train.
    """
    done = threading.Event()

    def poll() -> None:
        say_at = time.monotonic() + _FIRST_WAIT_SECONDS
        while not done.wait(_POLL_SECONDS):
            news: News = ray.get(board.take.remote())
            for line in news.lines:
                show(line)
            if news.is_training:
                say_at = time.monotonic() + _FIRST_WAIT_SECONDS
            elif time.monotonic() > say_at:
                say_at = time.monotonic() + _WAIT_SECONDS
                show(f"waiting for {what_is_missing()}")

    thread = threading.Thread(target=poll, name="board", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for line in ray.get(board.take.remote()).lines:
            show(line)


def _make_board(run: str, max_failures: int) -> Any:
    # On the driver's node: the board is not to be lost with a worker's.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0)(Board).options(
        name=run, namespace=_NAMESPACE, scheduling_strategy=here
    )
    deadline = time.monotonic() + _FREED_SECONDS
    while True:
        try:
            return board.remote(max_failures)
        except ValueError as error:  # the name is taken
            if time.monotonic() > deadline:
                raise InputError(
                    f"{run}: another job on this cluster works on this run now; wait for it, or "
                    "give another --name"
                ) from error
            time.sleep(_POLL_SECONDS)
