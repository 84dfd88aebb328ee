"""What an MLflow store is to be told, in order and from a thread, however long it is away."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

from giblet_ray.progress import Show
from giblet_ray.tracking.points import Point
from giblet_ray.tracking.quiet import quiet_mlflow

BATCH = 500
"""Entries that are looked at, and points that are written, at a time."""
_COLLECT_SECONDS = 1.0
_MOST_REFUSED = 20 * BATCH
"""Refused entries that are kept: all that is pending goes into each checkpoint."""


class Outbox(ABC):
    """Hands entries to a tracking store, one after another, until each is confirmed.

    Entries are points of curves, or other things that can be told twice without harm. What the
    store refuses for good is set aside, so that it does not hold up what follows; of that, the
    first entries are kept.

    Parameters
    ----------
    uri : str
        Tracking store.
    show : callable, optional
        Is given a line when the store is away, another when it is back, and one for each reason
        for which it refuses a run's.
    """

    def __init__(self, uri: str, show: Show | None = None) -> None:
        quiet_mlflow()
        self.uri = uri
        self._show = show or (lambda line: None)
        self._entries: list[Point] = []
        self._refused: list[Point] = []
        self._refusals: set[tuple[str, str]] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = threading.Event()
        self._ready = threading.Event()
        self._caught_up: int | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether MLflow, which takes seconds to import, is there to be told."""
        return self._ready.is_set()

    def pending(self) -> list[Point]:
        """Return what the store has not confirmed, in order; JSON."""
        with self._changed:
            return [*self._refused, *self._entries]

    def restore(self, entries: Sequence[Point]) -> None:
        """Queue what :meth:`pending` returned in another process; to be called before all else."""
        self._put(entries)

    def close(self, patience_seconds: float) -> list[Point]:
        """Hand over what is queued; return what the store has not confirmed by then.

        Parameters
        ----------
        patience_seconds : float
            How long to go on trying.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(patience_seconds)
        self._given_up.set()
        return self.pending()

    def _put(self, entries: Sequence[Point]) -> None:
        with self._changed:
            self._entries += entries
            self._changed.notify_all()

    @abstractmethod
    def _together(self, entries: Sequence[Point]) -> Sequence[Point]:
        """Return the first of some entries: as many as can be told at once."""

    @abstractmethod
    def _send(self, together: Sequence[Point]) -> None:
        """Tell the store; again, perhaps, what it was told before."""

    def _work(self) -> None:
        if not (entries := self._next()):
            return
        # MLflow is imported by this thread, and once there is something to tell: a training's
        # first step has this process to itself.
        from giblet_ray.tracking.server import brief, refuses

        self._ready.set()
        while entries and not self._given_up.is_set():
            together = self._together(entries)
            try:
                self._send(together)
            except Exception as error:  # noqa: BLE001 - told, and tried again; work goes on
                if refuses(error):
                    self._set_aside(together, brief(error))
                else:
                    self._wait_for_store(brief(error))
            else:
                self._confirm(together)
            entries = self._next()

    def _next(self) -> list[Point]:
        """Wait until entries have come together; return none when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closing)
            self._changed.wait_for(
                lambda: self._closing or len(self._entries) >= BATCH, _COLLECT_SECONDS
            )
            return self._entries[:BATCH]

    def _confirm(self, together: Sequence[Point]) -> None:
        with self._changed:
            del self._entries[: len(together)]
            behind = len(self._entries) >= BATCH
        if self._caught_up is not None:
            self._caught_up += sum("key" in entry for entry in together)
            if not behind:
                self._show(f"MLflow answers again: {self._caught_up:,} points caught up")
                self._caught_up = None

    def _set_aside(self, together: Sequence[Point], reason: str) -> None:
        with self._changed:
            del self._entries[: len(together)]
            self._refused += together[: _MOST_REFUSED - len(self._refused)]
        run = together[0]["run"]
        if (run, reason) not in self._refusals:
            self._refusals.add((run, reason))
            self._show(
                f"MLflow refuses what it is told of run {run}: {reason}; of what it refuses, the "
                f"first {_MOST_REFUSED:,} points are kept"
            )

    def _wait_for_store(self, reason: str) -> None:
        from giblet_ray.tracking.server import RETRY_SECONDS, why_away

        if self._caught_up is None:
            self._caught_up = 0
            self._show(
                f"MLflow at {self.uri} is away ({reason}): what is to be logged is kept "
                "until it is back"
            )
        while not self._given_up.wait(RETRY_SECONDS) and why_away(self.uri) is not None:
            pass
        # A server that hung does what it was asked meanwhile, also by processes that are gone:
        # what it has is to be looked at after that.
        self._given_up.wait(RETRY_SECONDS)
