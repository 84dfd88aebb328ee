"""Folders that checkpoints are written in are gone when their process is, however it ended."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from giblet_ray.checkpoint.scratch import scratch_folder

HOLD = """
from giblet_ray.checkpoint.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "model.safetensors").write_bytes(b"half")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def make_old(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_what_a_killed_process_left_goes_and_what_is_in_use_stays(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        left = Path(process.stdout.readline().strip())
        make_old(left)
        with scratch_folder() as own:
            make_old(own)
            with scratch_folder() as another:
                assert {left, own, another} == {*temporary.iterdir()}
        process.kill()
    assert {*temporary.iterdir()} == {left}
    with scratch_folder() as own:
        assert {*temporary.iterdir()} == {own}
    assert not [*temporary.iterdir()]


def test_what_another_may_be_about_to_use_is_left_alone(temporary: Path) -> None:
    new = Path(tempfile.mkdtemp(prefix="giblet_ray-checkpoint-"))
    with scratch_folder():
        assert new.exists()
