"""An MLflow server that goes away while it is logged to: all arrives, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import PATIENCE_SECONDS, steps, until

from giblet_ray.checkpoint.store import best_checkpoint, latest_record
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.score import Score
from giblet_ray.tracking.finish import RunEnd
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.points import keep_unsent, read_unsent
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.training.report import report_best


@pytest.fixture
def server(started_server: Any) -> Any:
    """The server, which answers when the test begins."""
    started_server.start()
    return started_server


def test_points_arrive_when_a_killed_server_is_back(server: Any) -> None:
    lines: list[str] = []
    run = MlflowRun(server.uri, "away", "killed", "away/killed")
    log = MetricLog(run.uri, lines.append)
    for step in range(300):
        log.log(run.id, {"step/loss": float(step)}, step)
        if step == 100:
            until(lambda: not log.pending())
            server.kill()
        if step == 200:
            until(lambda: lines)
            (away,) = lines
            assert f"MLflow at {run.uri} is away (Connection refused)" in away
            assert [point["step"] for point in log.pending()] == list(range(101, 201))
            server.start()
    assert log.close(PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == list(range(300))
    assert len(lines) == 2
    assert "MLflow answers again: 1" in lines[1]


def test_points_outlive_a_process_that_dies_while_the_server_is_away(server: Any) -> None:
    """As a training resumes: from a checkpoint at step 40, 20 steps before it was killed."""
    lines: list[str] = []
    run = MlflowRun(server.uri, "away", "dies", "away/dies")
    log = MetricLog(run.uri, lines.append)
    for step in range(20):
        log.log(run.id, {"step/loss": float(step)}, step)
    until(lambda: not log.pending())
    server.halt()
    for step in range(20, 60):
        log.log(run.id, {"step/loss": float(step), "system/cpu": 1.0}, step)
        if step == 40:
            checkpoint = log.pending()
    until(lambda: lines)
    log.close(0)  # the process is gone, but for what it has asked of the server
    lines.clear()
    again = MetricLog(run.uri, lines.append)
    again.restore(checkpoint)
    for step in range(41, 80):
        again.log(run.id, {"step/loss": float(step)}, step)
    until(lambda: lines)
    server.go_on()
    assert again.close(PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == list(range(80))
    assert steps(run, "system/cpu")[:21] == list(range(20, 41))


def test_a_run_ends_without_its_server_and_is_delivered_later(
    server: Any, local_training: Callable[..., Any], tmp_path: Path
) -> None:
    training = local_training(train={"epochs": 2, "batch_trs": 16})
    training.train(tmp_path / "night")
    storage = Storage.at(str(tmp_path))
    folder = storage.describe("night")
    best, latest = best_checkpoint(storage, "night"), latest_record(storage, "night")
    assert best is not None
    assert latest is not None
    history = latest.position.history

    def end(run: MlflowRun) -> str:
        lines: list[str] = []
        finish = RunEnd(run, storage, "night", 3, lines.append)
        finish.report = partial(report_best, run, best, history, Score(), True)
        finish("FINISHED")
        return lines[-1] if lines else ""

    run = MlflowRun(server.uri, "finish", "night", folder)
    run.describe({"lr": 0.1}, training.job.dataset, "ab" * 32)
    server.kill()
    log = MetricLog(run.uri)
    for step in range(5):
        log.log(run.id, {"step/loss": float(step)}, step)
    keep_unsent(storage, "night", log.close(0.5))
    other = [{"run": run.id, "key": "system/n1/x", "value": 1.0, "timestamp": 1, "step": 9}]
    keep_unsent(storage, "night", other, node="n1")
    said = end(run)
    assert "not logged: 6 points of its curves, figures, best scores and model, status" in said
    assert folder in said
    assert len(read_unsent(storage, "night")) == 2

    server.start()
    for _ in range(2):  # once more, it has nothing left to tell
        again = MlflowRun(server.uri, "finish", "night", folder)
        assert again.id == run.id
        end(again)
        assert read_unsent(storage, "night") == {}
        assert steps(run, "step/loss") == list(range(5))
        assert steps(run, "system/n1/x") == [9]
        assert steps(run, "best/val/pearson_mean") == [0]
        client = MlflowClient(run.uri)
        found = client.get_run(run.id)
        assert found.info.status == "FINISHED"
        assert len(found.outputs.model_outputs) == 1
        pictures = {item.path for item in client.list_artifacts(run.id)}
        assert {"learning_curves.png", "voxel_pearson.png", "settings.json"} <= pictures


def test_a_sweep_is_told_of_whole_though_server_and_driver_were_gone(
    server: Any, tmp_path: Path
) -> None:
    """The server is away while trials begin and end; the driver is killed, and resumes."""
    storage, lines = Storage.at(str(tmp_path)), []
    described = ({"lr": 0.1}, "data/film", "ab" * 32)

    def points(*steps: int) -> list[tuple[int, dict[str, float]]]:
        return [(step, {"step/loss": float(step)}) for step in steps]

    sweep = (server.uri, "sweeps", "night", storage, lines.append, "--sweep.resume night")
    runs = SweepRuns(*sweep)
    runs.describe(*described, "space: {}")
    runs.begin(0, "0000", *described)
    runs.log("0000", points(1, 2))
    until(lambda: not runs._log.pending())
    server.kill()
    runs.log("0000", points(3, 4))
    runs.begin(1, "0001", *described)
    runs.end("0000", "finished", "", {"val/pearson_mean": 0.5}, "")
    runs.log("0001", points(1))
    runs._log.close(0)  # killed: nothing is told any more
    server.start()

    again = SweepRuns(*sweep)
    assert again.parent.id == runs.parent.id
    again.begin(1, "0001", *described)
    again.log("0001", points(1, 2))
    until(lambda: not again._log.pending())
    server.kill()
    again.end("0001", "failed", "loss is NaN", {}, "Traceback: at epoch 2")
    again.crown(
        "0000", {"val/pearson_mean": 0.5}, {}, lambda child: child.text("drawn", "figure.txt")
    )
    again.close("FINISHED", 1)
    assert "not logged: what its trials have told since, the best trial" in lines[-1]
    assert f"it lies in {tmp_path}, and --sweep.resume night logs it" in lines[-1]
    assert read_unsent(storage, "")
    server.start()

    last = SweepRuns(*sweep)
    last.crown(
        "0000", {"val/pearson_mean": 0.5}, {}, lambda child: child.text("drawn", "figure.txt")
    )
    last.close("FINISHED", 60)
    assert read_unsent(storage, "") == {}
    client = MlflowClient(server.uri)
    found = client.search_runs([last.parent.experiment_id])
    by_trial = {run.data.tags.get("giblet_ray.trial"): run for run in found}
    assert Counter(run.info.status for run in found) == {"FINISHED": 2, "FAILED": 1}
    parent, first, second = by_trial[None], by_trial["0"], by_trial["1"]
    assert parent.data.tags["giblet_ray.best"] == first.info.run_id
    assert first.data.metrics["best/val/pearson_mean"] == 0.5
    assert second.data.tags["giblet_ray.cause"] == "loss is NaN"
    assert [item.path for item in client.list_artifacts(first.info.run_id)] == [
        "figure.txt",
        "settings.json",
    ]
    for run, expected in ((first, [1, 2, 3, 4]), (second, [1, 2])):
        assert run.data.params == {"lr": "0.1"}
        history = client.get_metric_history(run.info.run_id, "step/loss")
        assert [m.step for m in history] == expected
