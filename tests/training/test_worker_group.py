"""Workers that are waited for end when whoever waits is told to."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator

import pytest

from giblet_ray.config import TrainJob
from giblet_ray.training import worker_group
from giblet_ray.training.worker_group import Training, fit_workers


class EndlessTrainer:
    """Trains until it is aborted."""

    aborted = threading.Event()

    def __init__(self, *told: object, **settings: object) -> None:
        self.begun = threading.Event()

    def fit(self) -> None:
        self.begun.set()
        self.aborted.wait(60)

    def abort(self) -> None:
        self.aborted.set()


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """A shell has what it starts in the background ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(50)
@pytest.mark.usefixtures("heeds_interrupts")
def test_a_process_that_ray_cancels_ends_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is no signal: it wakes nobody who waits for a lock."""
    monkeypatch.setattr(worker_group, "LeanTrainer", EndlessTrainer)
    told = {"job": TrainJob(dataset="data"), "monitor": None}
    threading.Timer(0.5, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        fit_workers(Training(told, {"CPU": 1}, 1, []))
    assert EndlessTrainer.aborted.is_set()
