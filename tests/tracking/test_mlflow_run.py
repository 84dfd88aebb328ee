"""A real MLflow store: what is written, and what happens when it cannot be."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient

from giblet_ray.errors import InputError
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun, git_commit
from giblet_ray.tracking.store import open_store


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('it\'s "here"-')
    return f"sqlite:///{folder}/mlflow.db"


def steps(run: MlflowRun, key: str) -> list[int]:
    return [m.step for m in MlflowClient(run.uri).get_metric_history(run.id, key)]


def test_points_arrive_in_order_and_none_is_missing(uri: str) -> None:
    run = MlflowRun(uri, "points", "a", "points/a")
    log = MetricLog(run.uri)
    for step in range(1200):
        log.log(run.id, {"step/loss": 1 / (step + 1)}, step)
    assert log.close(60) == []
    assert steps(run, "step/loss") == list(range(1200))


def test_mlflow_is_imported_once_there_is_something_to_tell(tmp_path: Path) -> None:
    script = """
        import sys, time
        from giblet_ray.tracking.metric_log import MetricLog
        log = MetricLog(sys.argv[1])
        time.sleep(0.1)
        assert not log.is_ready and "mlflow" not in sys.modules
        log.log("no-such-run", {"step/loss": 0.5}, 7)
        deadline = time.monotonic() + 60
        while not log.is_ready:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), f"sqlite:///{tmp_path}/mlflow.db"]
    subprocess.run(command, check=True, timeout=120)


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


def test_points_that_cannot_be_written_are_given_back(tmp_path: Path) -> None:
    log = MetricLog(f"sqlite:///{tmp_path}/mlflow.db")
    log.log("no-such-run", {"step/loss": 0.5}, 7)
    (left,) = log.close(0.5)
    assert (left["key"], left["value"], left["step"]) == ("step/loss", 0.5, 7)


@pytest.mark.parametrize("experiment", ["/lab/film", 'it\'s a "film": 50%?'])
def test_an_experiment_s_artifacts_lie_beside_the_store(uri: str, experiment: str) -> None:
    run = MlflowRun(uri, experiment, "a", "called/a")
    run.text("hello", "note.txt")
    below = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / experiment.lstrip("/")
    assert (below / run.id / "artifacts/note.txt").read_text() == "hello"


def test_run_of_the_same_folder_is_continued(uri: str) -> None:
    first = MlflowRun(uri, "names", "night", "/runs/night")
    first.close("FAILED")
    again = MlflowRun(uri, "names", "night", "/runs/night")
    other = MlflowRun(uri, "names", "night", "/elsewhere/night")
    assert again.id == first.id
    assert other.id != first.id
    assert MlflowClient(first.uri).get_run(first.id).info.status == "RUNNING"


def test_settings_are_parameters_of_their_own(uri: str) -> None:
    run = MlflowRun(uri, "settings", "a", "settings/a")
    settings = {f"model.width_{i}": i for i in range(150)} | {"optimizer.lr": 3e-4}
    run.describe(settings, "/data/film", "ab" * 32)
    run.describe({**settings, "data.lag_seconds": 3}, "/data/film", "ab" * 32)
    recorded = MlflowClient(run.uri).get_run(run.id)
    assert recorded.data.params["optimizer.lr"] == "0.0003"
    assert recorded.data.params["data.lag_seconds"] == "3"
    assert len(recorded.data.params) == 152
    assert len(recorded.inputs.dataset_inputs) == 1


def test_long_settings_that_differ_at_their_end_are_told_apart(uri: str) -> None:
    films = [f"friends_s01e{n:03d}" for n in range(500)]
    logged = []
    for last in ("a", "b"):
        run = MlflowRun(uri, "settings", last, f"settings/long-{last}")
        run.describe({"data.split.test_stimuli": [*films, last]}, "/data/film", "ab" * 32)
        logged.append(MlflowClient(run.uri).get_run(run.id).data.params["data.split.test_stimuli"])
    assert logged[0] != logged[1]
    for value in logged:
        assert value.startswith("['friends_s01e000', 'friends_s01e001'")
        assert len(value) < 600


def test_epochs_that_a_run_has_no_curve_of_are_recorded(uri: str) -> None:
    run = MlflowRun(uri, "epochs", "a", "epochs/a")
    assert run.is_new
    past = [{"epoch": epoch, "val/loss": 1 / epoch} for epoch in range(1, 1203)]
    run.epochs(past)
    again = MlflowRun(uri, "epochs", "a", "epochs/a")
    assert not again.is_new
    again.epochs([*past, {"epoch": 1203, "val/loss": 0.0, "val/mse": 1.0}])
    log = MetricLog(run.uri)
    for epoch in (1202, 1203):  # a worker repeats the last one, and goes on
        log.log(run.id, {"val/loss": 0.5}, epoch)
    assert log.close(60) == []
    assert steps(run, "val/loss") == list(range(1, 1204))
    assert steps(run, "val/mse") == [1203]


@pytest.mark.parametrize("folder", ["it's", '"here"', 'it\'s "here"', "`100%` \\"])
def test_run_is_found_again_whatever_its_folder_is_called(uri: str, folder: str) -> None:
    first = MlflowRun(uri, "quotes", "a", f"/runs/{folder}")
    again = MlflowRun(uri, "quotes", "a", f"/runs/{folder}")
    assert (again.id, again.is_new) == (first.id, False)
    (found,) = [run for run in open_store(uri).runs() if run.id == first.id]
    assert found.folder == f"/runs/{folder}"


@pytest.mark.parametrize(
    "bad",
    ["sqlite:////proc/no/mlflow.db", "nonsense://x", "mlruns", "mysql+pymysql://u@localhost/db"],
)
def test_store_that_cannot_be_used_is_one_line(bad: str) -> None:
    with pytest.raises(InputError, match=r"--tracking\.uri") as error:
        MlflowRun(bad, "x", "x", "x")
    assert "\n" not in str(error.value)


def test_commit_is_that_of_the_code() -> None:
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("-modified")) == 40


def test_runs_on_one_data_set_may_begin_at_the_same_moment(uri: str) -> None:
    runs = [MlflowRun(uri, "at once", f"{n}", f"at-once/{n}") for n in range(8)]
    together = Barrier(len(runs))

    def describe(run: MlflowRun) -> None:
        together.wait()
        run.describe({"a": 1}, "/data/film at once", "cd" * 32)

    with ThreadPoolExecutor(len(runs)) as threads:
        list(threads.map(describe, runs))
    found = [MlflowClient(run.uri).get_run(run.id).inputs.dataset_inputs for run in runs]
    assert [len(each) for each in found] == [1] * len(runs)
