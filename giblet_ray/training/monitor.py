"""What a training says to its user, wherever its workers run, and how it is doing.

A process of its own imports this file to collect that: it is to import little.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from giblet_ray.progress import Show

_POLL_SECONDS = 0.5
_FIRST_WAIT_SECONDS, _WAIT_SECONDS = 20.0, 60.0
"""When and how often a user is told that workers are waited for."""


@dataclass(frozen=True)
class News:
    """What is new on a monitor: lines for the user, and whether workers are there, and train."""

    lines: list[str]
    has_workers: bool
    is_training: bool


class Monitor:
    """Collects what workers and their controller have to say until the driver takes it.

    Workers, which start while the data is read, are handed it here.

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
        self._has_workers = self._is_training = False
        self._data: list[Any] = []

    def write(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def give(self, data: list[Any]) -> None:
        """Hand the workers what they train on: a list with a reference, which is kept."""
        self._data = data

    def given(self) -> list[Any]:
        """Return the list; an empty one until there is one."""
        return self._data

    def arrived(self) -> None:
        """Note that the workers have found room."""
        self._has_workers = True

    def started(self) -> None:
        """Note that the workers train."""
        self._is_training = True

    def progressed(self) -> None:
        """Note a new checkpoint: failures before it count no more."""
        self._failures = 0

    def failed(self, line: str, traceback: str) -> None:
        """Note that workers were lost or raised an error, and whether that is once too often."""
        self._has_workers = self._is_training = False
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
        return News(lines, self._has_workers, self._is_training)


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
    show: Show,
    what_is_missing: Callable[[], str],
    when_training: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Show what a monitor is told while the block runs, and that workers are waited for.

    Parameters
    ----------
    monitor : ActorHandle
        A :class:`Monitor`.
    show : Show
    what_is_missing : callable
        Says what workers wait for, until they have it.
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
            if news.has_workers:
                say_at = time.monotonic() + _FIRST_WAIT_SECONDS
            elif time.monotonic() > say_at:
                say_at = time.monotonic() + _WAIT_SECONDS
                show(f"waiting for {what_is_missing()}")

    with ThreadPoolExecutor(1, "monitor") as thread:
        polling = thread.submit(poll)
        try:
            yield
        finally:
            done.set()
            wait([polling])
            for line in ray.get(monitor.take.remote()).lines:
                show(line)
        polling.result()  # what went wrong in it is told, too
