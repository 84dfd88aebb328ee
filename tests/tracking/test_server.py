"""An MLflow server that is logged to, and that hangs: all arrives, and nothing twice."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import PATIENCE_SECONDS, steps, until

from giblet_ray.checkpoint.store import best_checkpoint, latest_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.read import read_runs
from giblet_ray.config import PromoteJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.promotion.promote import promote
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.registry import fetch_registered
from giblet_ray.tracking.store import open_store
from giblet_ray.training.identity import saved_config
from giblet_ray.training.report import report_best


@pytest.fixture
def server(started_server: Any) -> Any:
    """The server, which answers when the test begins."""
    started_server.start()
    return started_server


def test_a_run_of_a_server_ends_without_a_word(
    server: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    MlflowRun(server.uri, "quiet", "run", "quiet/run").close("FINISHED")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_hangs_is_told_nothing_twice(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was sent while it hung it takes when it goes on, though the sender had given up."""
    lines: list[str] = []
    run = MlflowRun(server.uri, "away", "hangs", "away/hangs")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    log = MetricLog(run.uri, lines.append)
    log.log(run.id, {"step/loss": 0.0}, 0)
    until(lambda: not log.pending())
    server.halt()
    log.log(run.id, {"step/loss": 1.0, "step/mse": 1.0}, 1)
    until(lambda: lines)
    assert len(log.pending()) == 2
    server.go_on()
    log.log(run.id, {"step/loss": 2.0}, 2)
    assert log.close(PATIENCE_SECONDS) == []
    assert steps(run, "step/loss") == [0, 1, 2]
    assert steps(run, "step/mse") == [1]


def test_a_run_that_the_user_deleted_holds_up_no_other(server: Any) -> None:
    lines: list[str] = []
    gone = MlflowRun(server.uri, "away", "gone", "away/gone")
    here = MlflowRun(server.uri, "away", "here", "away/here")
    MlflowClient(gone.uri).delete_run(gone.id)
    log = MetricLog(here.uri, lines.append)
    for run in (gone, here):
        log.log(run.id, {"step/loss": 1.0}, 1)
    (left,) = log.close(PATIENCE_SECONDS)
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


def test_models_are_compared_promoted_and_fetched_through_the_server(
    server: Any,
    local_training: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage.at(str(tmp_path_factory.mktemp("runs")))
    training = local_training(train={"epochs": 2, "batch_trs": 16})
    training.train(Path(storage.path("night")))
    best, latest = best_checkpoint(storage, "night"), latest_record(storage, "night")
    assert best is not None
    assert latest is not None
    job, history = training.job, latest.position.history
    run = MlflowRun(server.uri, "served", "night", storage.describe("night"))
    run.describe(saved_config(job)["train"], job.dataset, "ab" * 32)
    log = MetricLog(run.uri)
    for metrics in history:
        curves = {key: value for key, value in metrics.items() if "/" in key}
        log.log(run.id, curves, int(metrics["epoch"]))
    assert log.close(PATIENCE_SECONDS) == []
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
