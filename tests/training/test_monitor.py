"""What a run's user is told of workers that fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)

from giblet_ray.training.failures import Failures
from giblet_ray.training.monitor import shown_monitor, started_monitor

KILLED = WorkerHealthCheckFailedError("A worker health check failed.", RayActorError())
OUT_OF_MEMORY = WorkerHealthCheckFailedError(
    "A worker health check failed.",
    RayActorError(error_msg="Task was killed due to the node running low on memory."),
)
CUT_OFF = UserExceptionWithTraceback(
    RuntimeError("gloo"),
    "Traceback\nRuntimeError: [gloo/transport/tcp/pair.cc:537] Read error",
)
RAISED = UserExceptionWithTraceback(ValueError("no"), "Traceback\nValueError: no\n")


@pytest.fixture(scope="module")
def monitor(cluster: None) -> Iterator[Any]:
    """Of a training that is not given up."""
    with started_monitor(9) as running:
        yield running


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ({1: KILLED}, "worker 1 was lost"),
        ({1: OUT_OF_MEMORY}, "worker 1 was lost: its machine ran out of memory"),
        ({0: CUT_OFF, 1: KILLED}, "worker 1 was lost"),
        ({0: CUT_OFF}, "worker 0 lost its connection to another"),
        ({0: RAISED, 1: RAISED}, "worker 0 failed: ValueError: no"),
    ],
)
def test_the_worker_that_made_others_fail_is_told_of(
    monitor: Any, errors: dict[int, Exception], line: str
) -> None:
    Failures(monitor).after_exception(None, errors)
    assert ray.get(monitor.take.remote()).lines == [f"{line}; going on from the latest checkpoint"]
    fatal, traceback = ray.get(monitor.fatal.remote())
    assert fatal is None
    assert type(errors[max(errors)]).__name__ in traceback


def test_what_fails_while_lines_are_shown_is_not_lost(cluster: None) -> None:
    shown = threading.Event()

    def show(line: str) -> None:
        shown.set()
        raise OSError("a closed pipe")

    with started_monitor(9) as monitor:
        ray.get(monitor.write.remote("epoch 1"))
        with (
            pytest.raises(OSError, match="a closed pipe"),
            shown_monitor(monitor, show, lambda: "nothing"),
        ):
            assert shown.wait(60)


def test_a_failure_too_many_is_told_with_what_failed(cluster: None) -> None:
    with started_monitor(1) as monitor:
        failures = Failures(monitor)
        failures.after_exception(None, {0: CUT_OFF})
        failures.after_exception(None, {0: RAISED, 1: RAISED})
        assert len(ray.get(monitor.take.remote()).lines) == 1
        fatal, traceback = ray.get(monitor.fatal.remote())
    assert fatal == "worker 0 failed: ValueError: no; given up after 2 failures in a row"
    assert UserExceptionWithTraceback.__name__ in traceback
