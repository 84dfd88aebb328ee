"""Who is told what a job does, and how far a long one is, now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

Show = Callable[[str], None]
"""Takes each line that the user should see."""
_FIRST_SECONDS = 5.0
_EVERY_SECONDS = 10.0
_UNCHANGED_SECONDS = 60.0


class Progress:
    """Says what a job is doing: after 5 s, then every 10 s, or 60 s where nothing has changed.

    Parameters
    ----------
    show : Show
        Takes a line; called from a thread of its own.

    Attributes
    ----------
    doing : str
        What is said. The job keeps it true.
    """

    def __init__(self, show: Show) -> None:
        self.doing = ""
        self._show = show
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._say, daemon=True)

    @property
    def seconds(self) -> float:
        """Seconds since the job started."""
        return time.monotonic() - self._started

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _say(self) -> None:
        said, said_at = "", 0.0
        pause = _FIRST_SECONDS
        while not self._over.wait(pause):
            pause = _EVERY_SECONDS
            if self.doing and (self.doing != said or self.seconds - said_at >= _UNCHANGED_SECONDS):
                said, said_at = self.doing, self.seconds
                self._show(f"{said_at:5.0f} s  {said}")
