"""Stores that are read: found as they are, or told apart from what is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from giblet_ray.errors import InputError
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.store import open_store


def test_store_that_was_written_is_opened(tmp_path: Path) -> None:
    run = MlflowRun(f"sqlite:///{tmp_path}/mlflow.db", "x", "night", "/runs/night")
    assert open_store(run.uri).run(run.id).name == "night"


def test_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--tracking\.uri: no such file: .*absent\.db"):
        open_store(f"sqlite:///{tmp_path}/absent.db")
    assert not list(tmp_path.iterdir())


def test_other_files_are_told_apart_and_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all\n" * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE birds (name)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name, message in (("text.db", "file is not a database"), ("other.db", "not one of MLflow")):
        with pytest.raises(InputError, match=message) as error:
            open_store(f"sqlite:///{tmp_path / name}")
        assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("uri", "message"),
    [("nonsense://x", r"nonsense://x: cannot be read"), ("mlruns", r"mlruns: is a path; sqlite")],
)
def test_address_that_cannot_be_read_is_one_line(
    uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"--tracking\.uri {message}") as error:
        open_store(uri)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
