"""jobs/train.py as a user runs it: killed, started again, and given what it cannot use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from giblet_ray.dataset.reader import Dataset

ROOT = Path(__file__).parents[2]
SETTINGS = """
name: run
data: {split: {val_blocks: 1}}
model:
  embed_dim: 4
  audio_codebooks: 2
  kernel_sizes: [3]
  video_features: 8
  audio_features: 8
  text_features: 8
  trunk_dims: [16, 16]
  bottleneck_dim: 8
  head_dim: 16
train: {epochs: 4, batch_size: 16, checkpoint_every_steps: 5}
scaling: {num_workers: 2, cpus_per_worker: 0.5}
tracking: {log_model: false}
"""
STEPS_PER_EPOCH = 13


def start(dataset: str | Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the job in a folder of its own, as the leader of a process group."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.yaml").write_text(SETTINGS)
    command = [sys.executable, str(ROOT / "jobs/train.py"), "--config", "settings.yaml"]
    command += ["--dataset", str(dataset), *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what the job printed, once it has ended well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Kill -9 the job and all its processes as soon as something has happened."""
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline, "never got there"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def last_step(folder: Path) -> int:
    """Step of the latest complete checkpoint, 0 without one."""
    saved = [path.parent.name for path in (folder / "runs/run").glob("*/record.json")]
    return max((int(name.rpartition("-")[2]) for name in saved), default=0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = sorted(path.parent for path in (folder / "runs/run").glob("*/record.json"))
    return load_file(max(saved, key=lambda p: p.name.rpartition("-")[2]) / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(arrays_and_dataset: tuple[Any, Dataset], tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    output = finish(start(arrays_and_dataset[1].storage.location, folder))
    assert "epoch 4/4" in output
    assert "Warning" not in output
    assert "Traceback" not in output
    return folder


def test_job_killed_twice_and_started_again_ends_with_the_same_weights(
    arrays_and_dataset: tuple, undisturbed: Path, tmp_path: Path
) -> None:
    """Killed after epoch 2, and again in the middle of epoch 3."""
    dataset = arrays_and_dataset[1].storage.location
    for killed_at in (2 * STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 4):
        process = start(dataset, tmp_path)
        kill_when(process, lambda step=killed_at: last_step(tmp_path) >= step)
        assert last_step(tmp_path) < 4 * STEPS_PER_EPOCH
    output = finish(start(dataset, tmp_path))
    assert "continuing after epoch" in output
    expected, found = weights(undisturbed), weights(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def edit_manifest(dataset: Path, **changes: Any) -> None:
    path = dataset / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: edit_manifest(d, schema_version=7), r"schema version 7 is unknown"),
        (lambda d: edit_manifest(d, tr_seconds=3), r"content does not match its checksum"),
        (lambda d: (d / "text/two.parquet").unlink(), r"text/two.parquet: no such file"),
        (lambda d: os.truncate(d / "bold/01/one.parquet", 999), r"999 bytes; the manifest says"),
    ],
)
def test_damaged_data_set_is_one_line_and_exit_code_2(
    arrays_and_dataset: tuple, tmp_path: Path, damage: Callable[[Path], Any], message: str
) -> None:
    copy = Path(shutil.copytree(arrays_and_dataset[1].storage.location, tmp_path / "copy"))
    damage(copy)
    assert_refused(copy, tmp_path / "job", [], message)


def test_codes_outside_the_codebook_are_one_line_and_exit_code_2(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    dataset_writer(tmp_path / "bad", {"one": 90}, ("01",), first_code=3000)
    message = "codes/one.parquet: code 3000; 0 to 1023 are accepted"
    assert_refused(tmp_path / "bad", tmp_path / "job", [], message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere"], "nowhere/manifest.json: no such file"),
        (["--train.batch_size", "5000"], "--train.batch_size 5000 is larger than the training"),
        (["--data.lag_trs", "116"], "--data.split"),
        (["--data.voxels", "mask.npy"], "--data.voxels mask.npy: a mask of shape (25,); the data"),
        (["--model.audio_codebooks", "16"], "has 4 codebooks; use at most 4"),
        (["--model.kernel_sizes", "4"], "kernel_sizes is 4; odd positive widths are accepted"),
        (["--model.embd_dim", "4"], "did you mean model.embed_dim?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arrays_and_dataset: tuple, tmp_path: Path, arguments: list[str], message: str
) -> None:
    np.save(tmp_path / "mask.npy", np.ones(25, bool))
    assert_refused(arrays_and_dataset[1].storage.location, tmp_path, arguments, message)
    assert {path.name for path in tmp_path.iterdir()} <= {"settings.yaml", "mask.npy"}


def assert_refused(dataset: str | Path, folder: Path, arguments: list[str], message: str) -> None:
    """Check that the job says what is wrong in its last line, and nothing that is not for users."""
    process = start(dataset, folder, *arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    *before, last = output.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in output
    assert len(before) <= 2
