"""Stores that are a file: what leads to them, and two jobs that begin one at the same moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mlflow import MlflowClient

from giblet_ray.errors import InputError
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.sqlite import absolute_uri

ROUNDS = 4
OPENS_STORES = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from giblet_ray.tracking.mlflow_run import MlflowRun

    folder, me, other, rounds = Path(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4])
    for number in range(rounds):
        (folder / f"{number}-{me}").touch()
        while not (folder / f"{number}-{other}").exists():
            time.sleep(0.001)
        MlflowRun(f"sqlite:///{folder}/new-{number}/mlflow.db", "films", me, f"runs/{me}")
    """
)


def test_jobs_that_begin_one_new_store_at_the_same_moment_are_all_recorded(tmp_path: Path) -> None:
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS_STORES, tmp_path, *names, str(ROUNDS)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for names in (("a", "b"), ("b", "a"))
    ]
    try:
        for job in jobs:
            _, said = job.communicate(timeout=400)
            assert job.returncode == 0, said
    finally:
        for job in jobs:
            job.kill()
    for number in range(ROUNDS):
        (store,) = (tmp_path / f"new-{number}").iterdir()
        client = MlflowClient(f"sqlite:///{store}")
        films = client.get_experiment_by_name("films")
        runs = client.search_runs([films.experiment_id])
        assert sorted(run.info.run_name for run in runs) == ["a", "b"]


def test_relative_store_means_the_same_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


@pytest.mark.parametrize("folder", ["it's", 'a "b": #1; é & \\c'])
def test_a_store_may_lie_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    run = MlflowRun(f"sqlite:///{tmp_path}/{folder}/mlflow.db", "x", "a", "runs/a")
    assert MlflowClient(run.uri).get_run(run.id).info.run_name == "a"
    assert (tmp_path / folder / "mlflow.db").is_file()


@pytest.mark.parametrize("folder", ["50%41", "why?"])
def test_a_folder_that_an_address_cannot_name_is_refused_and_nothing_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    with pytest.raises(InputError, match=r"mlflow\.db holds % or \?") as error:
        MlflowRun("sqlite:///mlflow.db", "x", "a", "runs/a")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [folder]
