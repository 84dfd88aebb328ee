"""What a job does differently when `ray job submit` runs it, and where no cluster answers."""

from __future__ import annotations

import json
import socket

import pytest

from giblet_ray.cli import parse_job, run_job
from giblet_ray.cluster import connect
from giblet_ray.config import CompareJob, DemoJob, PrecomputeJob, PredictJob, TrainJob, TuneJob
from giblet_ray.errors import InputError
from giblet_ray.submission import refuse_passing_places, submitted_commit

TO_S3 = ["--storage.path", "s3://lab/runs", "--tracking.uri", "http://10.0.0.20:5000"]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "runtime_env": {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"},
        "metadata": {"job_submission_id": "raysubmit_1", "git_commit": "768ed6d"},
    }
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))


@pytest.mark.parametrize(
    ("job", "words", "message"),
    [
        (TrainJob, ["--dataset", "data/film", *TO_S3], "--dataset is data/film: "),
        (TrainJob, ["--dataset", "s3://lab/film", *TO_S3[2:]], "--storage.path is runs: "),
        (
            TrainJob,
            ["--dataset", "s3://lab/film", *TO_S3[:2]],
            "--tracking.uri is sqlite:///mlflow.db: ",
        ),
        (TuneJob, ["--sweep.resume", "night", *TO_S3[2:]], "GIBLET_RAY_STORAGE__PATH"),
        (PrecomputeJob, ["--out", "data/film"], "--out is data/film: "),
        (CompareJob, TO_S3[2:], "--out is not given: "),
        (
            PredictJob,
            ["--model", "m", "--dataset", "/d", "--out", "p", *TO_S3[2:]],
            "--out is p: ",
        ),
        (DemoJob, ["--out", "/shared/demo"], "its code is not sent to clusters"),
    ],
)
def test_a_submitted_job_leaves_nothing_in_its_passing_folder(
    submitted: None, job: type, words: list[str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        refuse_passing_places(parse_job(job, words))
    assert message in str(error.value)
    assert "is accepted" in str(error.value)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (TrainJob, ["--dataset", "/shared/film", *TO_S3]),
        (TrainJob, ["--dataset", "/d", *TO_S3[2:], "--storage.path", "/shared/runs"]),
        (TrainJob, ["--dataset", "/d", *TO_S3[:2], "--tracking.uri", "sqlite:////shared/m.db"]),
        (TuneJob, ["--sweep.resume", "night", *TO_S3]),
        (CompareJob, ["--out", "~/comparison", *TO_S3[2:]]),
    ],
)
def test_a_submitted_job_may_use_what_all_nodes_see(
    submitted: None, job: type, words: list[str]
) -> None:
    refuse_passing_places(parse_job(job, words))


def test_the_nodes_environment_serves_for_places_that_are_not_typed(
    submitted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIBLET_RAY_STORAGE__PATH", "s3://lab/runs")
    monkeypatch.setenv("GIBLET_RAY_TRACKING__URI", "http://10.0.0.20:5000")
    refuse_passing_places(parse_job(TrainJob, ["--dataset", "s3://lab/film"]))


def test_a_job_that_is_not_submitted_uses_its_working_folder() -> None:
    refuse_passing_places(parse_job(TrainJob, ["--dataset", "data/film"]))


def test_the_user_sees_one_line_before_anything_runs(
    submitted: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["jobs/precompute.py", "--out", "data/film"])
    with pytest.raises(SystemExit, match="2"):
        run_job(PrecomputeJob, lambda job: pytest.fail("the job ran"))
    said, line = capsys.readouterr()
    assert said == ""
    assert line.startswith("error: --out is data/film: a submitted job runs in a folder that is")
    assert line.count("\n") == 1


def test_a_submitted_job_records_the_commit_that_it_was_given(submitted: None) -> None:
    assert submitted_commit() == "768ed6d"


def test_a_job_that_is_not_submitted_was_given_no_commit() -> None:
    assert submitted_commit() is None


def test_an_address_where_no_cluster_answers_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setenv("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        with pytest.raises(InputError, match=f"RAY_ADDRESS {address}: no Ray cluster answers"):
            connect()
