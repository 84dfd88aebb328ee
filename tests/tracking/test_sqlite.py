"""Stores that are a file: what leads to them, and two jobs that begin one at the same moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from giblet_ray.errors import InputError
from giblet_ray.tracking import sqlite
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


@pytest.fixture
def tables_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that tables are kept in, none so far."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    sqlite._tables.cache_clear()
    yield tmp_path / "kept" / "giblet_ray"
    sqlite._tables.cache_clear()


def test_tables_that_mlflow_has_made_once_are_kept_for_the_next_store(
    tables_kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.make_store(tmp_path / "first.db")
    sqlite._tables.cache_clear()
    monkeypatch.setattr("giblet_ray.tracking.sqlite._migrated", lambda: pytest.fail("made again"))
    sqlite.make_store(tmp_path / "second.db")
    assert MlflowClient(f"sqlite:///{tmp_path}/second.db").search_experiments()
    assert [file.suffix for file in tables_kept.iterdir()] == [".db"]


@pytest.mark.parametrize("damaged", [b"", b"SQLite format 3\0 and no more"])
def test_kept_tables_that_are_damaged_are_made_again(
    tables_kept: Path, tmp_path: Path, damaged: bytes
) -> None:
    tables_kept.mkdir(parents=True)
    kept = tables_kept / f"mlflow-{mlflow.__version__}.db"
    kept.write_bytes(damaged)
    sqlite.make_store(tmp_path / "new.db")
    assert MlflowClient(f"sqlite:///{tmp_path}/new.db").search_experiments()
    assert kept.read_bytes() != damaged


def test_a_store_is_made_where_nothing_can_be_kept(tables_kept: Path, tmp_path: Path) -> None:
    tables_kept.parent.write_text("a file, where a folder would have to be")
    sqlite.make_store(tmp_path / "new.db")
    assert MlflowClient(f"sqlite:///{tmp_path}/new.db").search_experiments()
