"""What a node has to do, as points of a real MLflow run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from pydantic import ValidationError

from giblet_ray.tracking.config import TrackingConfig
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.points import RunAddress
from giblet_ray.tracking.system_metrics import SystemMetrics

CPU = "system/cpu_utilization_percentage"
_PATIENCE_SECONDS = 120


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.05)


def watch(run: RunAddress, node: str | None, n_points: int) -> None:
    """Log the use of this machine until MLflow has so many points more."""
    client = MlflowClient(run.uri)
    key = CPU if node is None else CPU.replace("system/", f"system/{node}/")
    log = MetricLog(run.uri)
    before = len(client.get_metric_history(run.run_id, key))
    system = SystemMetrics(log, run, node, 0.3)
    system.start()
    until(lambda: len(client.get_metric_history(run.run_id, key)) >= before + n_points)
    system.stop()
    assert log.close(_PATIENCE_SECONDS) == []


def test_a_run_that_is_resumed_goes_on_with_later_steps(tmp_path: Path) -> None:
    run = MlflowRun(f"sqlite:///{tmp_path}/mlflow.db", "x", "night", "/runs/night")
    watch(run.address, None, 2)
    first = MlflowClient(run.uri).get_metric_history(run.id, CPU)
    again = MlflowRun(run.uri, "x", "night", "/runs/night")
    assert again.address == run.address
    watch(again.address, None, 2)
    watch(again.address, "node-1", 1)
    both = MlflowClient(run.uri).get_metric_history(run.id, CPU)
    steps = [point.step for point in both]
    assert len(set(steps)) == len(steps)
    assert min(steps[len(first) :]) > max(steps[: len(first)])
    for point in both:  # steps are seconds since the run began
        assert abs(point.timestamp / 1000 - run.started - point.step) < 2
        assert 0 <= point.value <= 100
    logged = MlflowClient(run.uri).get_run(run.id).data.metrics
    assert {
        "system/system_memory_usage_percentage",
        "system/disk_usage_percentage",
        "system/network_receive_megabytes",
        "system/node-1/cpu_utilization_percentage",
    } <= logged.keys()


def test_without_an_interval_nothing_is_logged(tmp_path: Path) -> None:
    run = MlflowRun(f"sqlite:///{tmp_path}/mlflow.db", "x", "night", "/runs/night")
    log = MetricLog(run.uri)
    system = SystemMetrics(log, run.address, None, 0)
    system.start()
    system.stop()
    assert log.close(_PATIENCE_SECONDS) == []
    assert MlflowClient(run.uri).get_run(run.id).data.metrics == {}


def test_intervals_that_would_lose_points_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"is 0\.5; 0, or 1 and more, is accepted"):
        TrackingConfig(system_metrics_seconds=0.5)
    assert TrackingConfig(system_metrics_seconds=0).system_metrics_seconds == 0
