"""What a training says to its user, wherever its workers run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

_POLL_SECONDS = 0.5


class Board:
    """Collects lines from the workers until the driver prints them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._fatal: str | None = None

    def write(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)

    def give_up(self, error: str) -> None:
        """Note an error that starting again would not mend; the first one counts."""
        self._fatal = self._fatal or error

    def fatal(self) -> str | None:
        """Return the error noted by :meth:`give_up`."""
        return self._fatal

    def take(self) -> list[str]:
        """Return the lines that have not been taken yet."""
        lines, self._lines = self._lines, []
        return lines


@contextmanager
def shown_board(show: Callable[[str], None]) -> Iterator[Any]:
    """Start a board, and show what is written on it while the block runs."""
    board: Any = ray.remote(num_cpus=0)(Board).remote()
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_POLL_SECONDS):
            for line in ray.get(board.take.remote()):
                show(line)

    thread = threading.Thread(target=poll, name="board", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        done.set()
        thread.join()
        for line in ray.get(board.take.remote()):
            show(line)
        ray.kill(board)
