"""Points of curves in a real MLflow store: each arrives, and once."""

from __future__ import annotations

from mlflow import MlflowClient

from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun


def steps(run: MlflowRun, key: str) -> list[int]:
    return [m.step for m in MlflowClient(run.uri).get_metric_history(run.id, key)]


def test_points_arrive_in_order_and_none_is_missing(uri: str) -> None:
    run = MlflowRun(uri, "points", "a", "points/a")
    log = MetricLog(run.uri)
    for step in range(1200):
        log.log(run.id, {"step/loss": 1 / (step + 1)}, step)
    assert log.close(60) == []
    assert steps(run, "step/loss") == list(range(1200))


def test_points_of_several_runs_arrive_with_each(uri: str) -> None:
    runs = [MlflowRun(uri, "several", name, f"several/{name}") for name in "abc"]
    log = MetricLog(runs[0].uri)
    for step in range(300):
        log.log(runs[step % 3].id, {"step/loss": float(step)}, step)
    assert log.close(60) == []
    for index, run in enumerate(runs):
        assert steps(run, "step/loss") == list(range(index, 300, 3))


def test_steps_that_are_repeated_after_a_restart_are_logged_once(uri: str) -> None:
    run = MlflowRun(uri, "restart", "a", "restart/a")
    for first, last in ((0, 30), (20, 50)):
        log = MetricLog(run.uri)
        for step in range(first, last):
            log.log(run.id, {"step/loss": float(step)}, step)
        assert log.close(60) == []
    assert steps(run, "step/loss") == list(range(50))


def test_points_that_cannot_be_written_are_given_back(uri: str) -> None:
    log = MetricLog(uri)
    log.log("no-such-run", {"step/loss": 0.5}, 7)
    (left,) = log.close(0.5)
    assert (left["key"], left["value"], left["step"]) == ("step/loss", 0.5, 7)
