"""Nodes that die while a training runs on them, and nodes that join."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fault_cluster import STEPS_PER_EPOCH, Cluster, Training, assert_same_weights, position, saved

pytestmark = pytest.mark.timeout(900)


def test_run_of_fixed_size_waits_for_another_node_and_ends_with_the_same_weights(
    raylets: Cluster, start: Callable[..., Training], undisturbed: Path
) -> None:
    raylets.have(2)
    job = start()
    job.wait_for(lambda: job.step > STEPS_PER_EPOCH, "the second epoch")
    raylets.kill()
    job.wait_for_line("; going on from the latest checkpoint")
    line = job.wait_for_line("waiting for")
    assert "2 workers of 1 CPU each; the cluster has" in line
    raylets.add()
    lines = job.end().splitlines()
    assert any("continuing after epoch" in line for line in lines)
    assert_same_weights(undisturbed, job.run)


def test_elastic_run_goes_on_with_fewer_workers_and_grows_again(
    raylets: Cluster, start: Callable[..., Training]
) -> None:
    raylets.have(2)
    elastic = ("--scaling.num_workers", "1,2", "--scaling.resize_seconds", "5")
    job = start(*elastic, "--train.epochs", "40")
    job.wait_for_line("training with 2 of at most 2 workers")
    job.wait_for(lambda: job.step > STEPS_PER_EPOCH, "the second epoch")
    raylets.kill()
    job.wait_for_line("training with 1 of at most 2 workers")
    at = job.step
    job.wait_for(lambda: job.step > at, "progress with one worker")
    raylets.add()
    job.wait_for(
        lambda: sum("training with 2 of at most" in line for line in job.lines) == 2, "growth"
    )
    job.end()
    history = position(saved(job.run)[-1])["history"]
    assert [metrics["epoch"] for metrics in history] == list(range(1, 41))
    assert all(metrics["train/loss"] < 3 for metrics in history)
