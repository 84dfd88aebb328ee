"""An MLflow server that dies while a training runs, and comes back or does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_cluster import (
    EPOCHS,
    STEPS_PER_EPOCH,
    Cluster,
    Training,
    assert_every_step_once,
    assert_same_weights,
)
from mlflow_server import MlflowServer

pytestmark = pytest.mark.timeout(900)

AWAY_SECONDS = 60
LONG_EPOCHS = 80
"""Of a training that takes longer than the server is away."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server that runs."""
    made = MlflowServer(tmp_path)
    made.start()
    yield made
    made.kill()


def test_training_goes_on_while_the_server_is_away_for_a_minute(
    raylets: Cluster, start: Callable[..., Training], server: MlflowServer
) -> None:
    raylets.have(2)
    job = start("--tracking.uri", server.uri, "--train.epochs", str(LONG_EPOCHS))
    job.wait_for(lambda: job.step > STEPS_PER_EPOCH, "the second epoch")
    server.kill()
    before = job.step
    time.sleep(AWAY_SECONDS)
    assert job.returncode is None, job.lines
    assert job.step > before + STEPS_PER_EPOCH
    server.start()
    job.end()
    assert_every_step_once(server.uri, LONG_EPOCHS)


def test_run_ends_without_its_server_and_the_same_command_delivers_what_it_missed(
    raylets: Cluster, start: Callable[..., Training], undisturbed: Path, server: MlflowServer
) -> None:
    raylets.have(2)
    words = ("--tracking.uri", server.uri, "--tracking.patience_seconds", "5")
    job = start(*words)
    job.wait_for(lambda: job.step > STEPS_PER_EPOCH, "the second epoch")
    server.kill()
    lines = job.end().splitlines()
    assert_same_weights(undisturbed, job.run)
    (line,) = [line for line in lines if "not logged: " in line]
    assert "points of its curves" in line
    assert f"all of it lies in {job.run}, and the same command logs it" in line
    server.start()
    lines = start(*words).end().splitlines()
    assert any("is finished already" in line for line in lines)
    assert_every_step_once(server.uri, EPOCHS)
