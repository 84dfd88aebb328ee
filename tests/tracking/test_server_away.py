"""An MLflow server that goes away while it is logged to: all arrives, and nothing twice."""

from __future__ import annotations

import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from giblet_ray.checkpoint.store import best_checkpoint, latest_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.read import read_runs
from giblet_ray.config import PromoteJob, TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.promotion.promote import promote
from giblet_ray.tracking.finish import RunEnd
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.points import keep_unsent, read_unsent
from giblet_ray.tracking.registry import fetch_registered
from giblet_ray.tracking.store import open_store
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.training.identity import saved_config
from giblet_ray.training.report import report_best

_PATIENCE_SECONDS = 120


@pytest.fixture
def server(started_server: Any) -> Any:
    """The server, which answers when the test begins."""
    started_server.start()
    return started_server


def steps(run: MlflowRun, key: str) -> list[int]:
    return [m.step for m in MlflowClient(run.uri).get_metric_history(run.id, key)]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.05)


def test_a_run_of_a_server_ends_without_a_word(
    server: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    MlflowRun(server.uri, "quiet", "run", "quiet/run").close("FINISHED")
    assert capfd.readouterr() == ("", "")


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
    assert log.close(_PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == list(range(300))
    assert len(lines) == 2
    assert "MLflow answers again: 1" in lines[1]


def test_a_server_that_hangs_is_told_nothing_twice(server: Any) -> None:
    """What it was sent while it hung it takes when it goes on, though the sender had given up."""
    lines: list[str] = []
    run = MlflowRun(server.uri, "away", "hangs", "away/hangs")
    log = MetricLog(run.uri, lines.append)
    log.log(run.id, {"step/loss": 0.0}, 0)
    until(lambda: not log.pending())
    server.halt()
    log.log(run.id, {"step/loss": 1.0, "step/mse": 1.0}, 1)
    until(lambda: lines)
    assert len(log.pending()) == 2
    server.go_on()
    log.log(run.id, {"step/loss": 2.0}, 2)
    assert log.close(_PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == [0, 1, 2]
    assert steps(run, "step/mse") == [1]


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
    assert again.close(_PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == list(range(80))
    assert steps(run, "system/cpu")[:21] == list(range(20, 41))


def test_a_run_that_the_user_deleted_holds_up_no_other(server: Any) -> None:
    lines: list[str] = []
    gone = MlflowRun(server.uri, "away", "gone", "away/gone")
    here = MlflowRun(server.uri, "away", "here", "away/here")
    MlflowClient(gone.uri).delete_run(gone.id)
    log = MetricLog(here.uri, lines.append)
    for run in (gone, here):
        log.log(run.id, {"step/loss": 1.0}, 1)
    (left,) = log.close(_PATIENCE_SECONDS)
    assert left["run"] == gone.id
    assert steps(here, "step/loss") == [1]
    (line,) = lines
    assert line.startswith(f"MLflow refuses what it is told of run {gone.id}")


@pytest.mark.parametrize(
    "start", [partial(MlflowRun, experiment="away", name="start", folder="start"), open_store]
)
def test_a_server_that_is_away_at_the_start_is_one_line(start: Callable[[str], object]) -> None:
    with socket.socket() as nobody:  # bound, and not listened to
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(InputError) as error:
            start(uri)
    assert str(error.value).startswith(f"--tracking.uri {uri}: no answer (Connection refused)")


@pytest.fixture(scope="module")
def trained(
    train_locally: Callable[..., Any],
    arrays_and_dataset: tuple[Any, Any],
    tiny_model: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainJob, Storage, list[dict[str, float]]]:
    """A training's job, its storage, and its metrics by epoch."""
    folder = tmp_path_factory.mktemp("trained")
    job = TrainJob(
        dataset=arrays_and_dataset[1].storage.location,
        name="night",
        model=tiny_model,
        train={"epochs": 2, "batch_size": 16},
        storage={"path": str(folder)},
    )
    train_locally(job, folder / "night")
    storage = Storage.at(str(folder))
    record = latest_record(storage, "night")
    assert record is not None
    return job, storage, record.position.history


def test_a_run_ends_without_its_server_and_is_delivered_later(
    server: Any, trained: tuple[TrainJob, Storage, list[dict[str, float]]]
) -> None:
    job, storage, history = trained
    folder = storage.describe("night")
    best = best_checkpoint(storage, "night")
    assert best is not None

    def end(run: MlflowRun) -> str:
        lines: list[str] = []
        finish = RunEnd(run, storage, "night", 3, lines.append)
        finish.report = partial(report_best, run, best, history, Score(), True)
        finish("FINISHED")
        return lines[-1] if lines else ""

    run = MlflowRun(server.uri, "finish", "night", folder)
    run.describe({"lr": 0.1}, job.dataset, "ab" * 32)
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


def test_models_are_compared_promoted_and_fetched_through_the_server(
    server: Any,
    trained: tuple[TrainJob, Storage, list[dict[str, float]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    job, storage, history = trained
    best = best_checkpoint(storage, "night")
    assert best is not None
    run = MlflowRun(server.uri, "served", "night", storage.describe("night"))
    run.describe(saved_config(job)["train"], job.dataset, "ab" * 32)
    log = MetricLog(run.uri)
    for metrics in history:
        curves = {key: value for key, value in metrics.items() if "/" in key}
        log.log(run.id, curves, int(metrics["epoch"]))
    assert log.close(_PATIENCE_SECONDS) == []
    report_best(run, best, history, Score(), log_model=True)
    run.close("FINISHED")
    (compared,) = read_runs(server.uri, "served")
    assert len(compared.curves["val/pearson_mean"]) == 2
    tracking = {"uri": server.uri}
    promoted = promote(PromoteJob(run=run.id, tracking=tracking), lambda line: None)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with fetch_registered(promoted.uri, server.uri) as (fetched, registered):
        assert registered.run_id == run.id
        assert Encoder.load(fetched).record == Encoder.load(best.location).record
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


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
