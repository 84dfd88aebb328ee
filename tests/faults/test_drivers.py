"""A driver that dies, and the same job submitted again to the cluster that outlived it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_cluster import (
    EPOCHS,
    STEPS_PER_EPOCH,
    Cluster,
    Training,
    assert_every_step_once,
    assert_same_weights,
    only_run,
)

pytestmark = pytest.mark.timeout(900)


def test_job_submitted_again_continues_the_run_and_mlflow_has_every_step_once(
    raylets: Cluster, start: Callable[..., Training], undisturbed: Path, tmp_path: Path
) -> None:
    """The driver is killed twice: right after a checkpoint, and somewhere between two."""
    raylets.have(2)
    for step in (STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH + 6):
        job = start()
        job.wait_for(lambda step=step, job=job: job.step >= step, f"step {step}")
        job.kill()
    job = start()
    lines = job.end().splitlines()
    assert any("continuing after epoch" in line for line in lines)
    assert_same_weights(undisturbed, job.run)
    assert_every_step_once(f"sqlite:///{tmp_path}/job/mlflow.db", EPOCHS)


def test_run_is_trained_by_one_job_at_a_time(
    raylets: Cluster, start: Callable[..., Training], tmp_path: Path
) -> None:
    raylets.have(2)
    job = start("--train.epochs", "200")  # longer than the other one takes to start
    job.wait_for_line("training with")
    second = start("--train.epochs", "200")
    assert "another job works on it, on " in second.end(2).splitlines()[-1]
    assert job.returncode is None
    assert only_run(f"sqlite:///{tmp_path}/job/mlflow.db").info.status == "RUNNING"
