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

_POLL_SECONDS = 0.5
_FIRST_WAIT_SECONDS, _WAIT_SECONDS = 20.0, 60.0
"""When and how often a user is told that workers are waited for."""
_OF_CONNECTIONS = re.compile(r"gloo/transport/|DistBackendError|DistNetworkError|NCCL")
"""What PyTorch says in a worker when another one is gone."""
_OF_MEMORY = "running low on memory"
"""What Ray says of a process that it has killed for the memory it took."""


@dataclass(frozen=True)
class News:
    """What is new on a monitor: lines for the user, and whether workers train."""

    lines: list[str]
    is_training: bool


class Monitor:
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
    """Tells a monitor of workers that were lost, and of errors that they raised.

    Ray Train's controller imports this file for it, so that it is to import little.
    """

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

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
        ray.get(self._monitor.failed.remote(line, "".join(traceback.format_exception(error))))


def _is_of_process(error: BaseException) -> bool:
    """Tell the end of a worker's process from an error that was raised in it."""
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


@contextmanager
def started_monitor(max_failures: int) -> Iterator[Any]:
    """Start a :class:`Monitor` for a training that runs while the block does."""
    # On the driver's node: it is not to be lost with a worker's.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0)(Monitor)
    running = actor.options(scheduling_strategy=here).remote(max_failures)
    try:
        yield running
    finally:
        ray.kill(running)


@contextmanager
def shown_monitor(
    monitor: Any,
    show: Callable[[str], None],
    what_is_missing: Callable[[], str],
    when_training: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Show what a monitor is told while the block runs, and that workers are waited for.

    Parameters
    ----------
    monitor : ActorHandle
        A :class:`Monitor`.
    show : callable
        Is given each line that the user should see.
    what_is_missing : callable
        Says what workers wait for, while none train.
    when_training : callable, optional
        Is called once the workers train, in a thread: what can be done while they do.
    """
    done = threading.Event()

    def poll() -> None:
        say_at = time.monotonic() + _FIRST_WAIT_SECONDS
        is_called = False
        while not done.wait(_POLL_SECONDS):
            news: News = ray.get(monitor.take.remote())
            for line in news.lines:
                show(line)
            if news.is_training and not is_called:
                is_called = True
                when_training()
            if news.is_training:
                say_at = time.monotonic() + _FIRST_WAIT_SECONDS
            elif time.monotonic() > say_at:
                say_at = time.monotonic() + _WAIT_SECONDS
                show(f"waiting for {what_is_missing()}")

    thread = threading.Thread(target=poll, name="monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for line in ray.get(monitor.take.remote()).lines:
            show(line)
