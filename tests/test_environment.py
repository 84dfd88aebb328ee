"""What the environment gets wrong: one line that names the variable and what is accepted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from giblet_ray.cli import run_job
from giblet_ray.cluster import connect
from giblet_ray.config import CompareJob, Job, PrecomputeJob, PromoteJob, TrainJob
from giblet_ray.environment import check_environment, cluster_address
from giblet_ray.errors import InputError

ROOT = Path(__file__).parents[1]
LONG = "/tmp/" + 75 * "x"
NO_HOME = "/proc/none"
VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without what decides on a cluster, in a process that has none."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TMPDIR", LONG, "paths may have 107 bytes; RAY_TMPDIR=FOLDER is accepted, such as /tmp"),
        ("RAY_TMPDIR", LONG, "paths may have 107 bytes"),
        ("RAY_TMPDIR", "/tmp/it's", "without quotes"),
        ("RAY_TMPDIR", "/tmp/é", "ASCII"),
        ("TMPDIR", "", "a full path"),
        ("RAY_TMPDIR", "/proc/none", "/proc/none/ray, which cannot be written"),
        ("HOME", NO_HOME, "Ray keeps its token in /proc/none/.ray, which cannot be written"),
        ("RAY_ADDRESS", "head-node", "names no port; HOST:PORT"),
        ("RAY_ADDRESS", "10.0.0.1:", "names no port"),
        ("RAY_ADDRESS", "10.0.0.1:http", "names no port"),
        ("RAY_ADDRESS", ":6379", "names no port"),
        ("RAY_ADDRESS", "ray://10.0.0.1:10001", "HOST:PORT, from one of its machines"),
    ],
)
def test_what_ray_cannot_use_is_told_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as error:
        connect()
    assert str(error.value).startswith(f"{variable} {value}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cluster_is_looked_for_where_it_may_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other clusters of this machine are none of the test's."""
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(InputError, match="RAY_ADDRESS auto: no Ray cluster runs on this machine"):
        connect()


def test_a_token_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a process of its own: Ray remembers the token that it has found."""
    script = "from giblet_ray.cluster import connect\nconnect()"
    told = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    said = subprocess.run([sys.executable, "-c", script], env=told, capture_output=True, text=True)
    last = said.stderr.splitlines()[-1]
    assert last.startswith("giblet_ray.errors.InputError: RAY_AUTH_TOKEN_PATH is set but")
    assert last.endswith(f"{tmp_path / 'none'}: a file with a token, or no variable, is accepted")


@pytest.mark.parametrize(
    ("address", "found"),
    [("", None), ("local", None), ("auto", "auto"), ("h:6379", "h:6379"), ("[::1]:1024",) * 2],
)
def test_addresses_that_ray_knows_are_taken(
    monkeypatch: pytest.MonkeyPatch, address: str, found: str | None
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() == found


def test_a_cluster_that_is_joined_needs_neither_home_nor_temporary_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HOME", NO_HOME)
    monkeypatch.setenv("TMPDIR", LONG)
    assert check_environment() == "10.0.0.1:6379"


def test_a_home_that_holds_a_token_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    check_environment()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    (tmp_path / ".ray").chmod(0o500)
    check_environment()


def test_only_what_starts_ray_minds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", NO_HOME)
    ran: list[Job] = []
    for job, words in (
        (CompareJob, []),
        (PromoteJob, ["--run", "first"]),
        (PrecomputeJob, ["--check", "--out", "data"]),
    ):
        monkeypatch.setattr("sys.argv", ["job.py", *words])
        run_job(job, ran.append)
    assert [type(job) for job in ran] == [CompareJob, PromoteJob, PrecomputeJob]
    monkeypatch.setattr("sys.argv", ["train.py", "--dataset", "data"])
    with pytest.raises(SystemExit, match="2"):
        run_job(TrainJob, ran.append)
    assert len(ran) == 3


def test_a_user_reads_one_line(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "jobs/train.py", "--dataset", tmp_path]
    home = {**os.environ, "HOME": NO_HOME}
    said = subprocess.run(command, env=home, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"error: HOME {NO_HOME}: ")
    assert said.stderr.count("\n") == 1
