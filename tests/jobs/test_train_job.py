"""jobs/train.py as a user runs it: killed, started again, and given what it cannot use."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from processes import JobProcess
from safetensors.torch import load_file

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.training.trainer import fit

ROOT = Path(__file__).parents[2]
STEPS_PER_EPOCH = 12


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_model: dict[str, Any]) -> Path:
    """A YAML file of what the jobs here are given."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    groups = {
        "name": "run",
        "model": tiny_model,
        "train": {"epochs": 4, "batch_size": 16, "checkpoint_every_steps": 5},
        "scaling": {"num_workers": 2, "cpus_per_worker": 0.5},
        "tracking": {"log_model": False},
    }
    path.write_text(yaml.safe_dump(groups))
    return path


@pytest.fixture
def start(
    settings: Path, start_job: Callable[..., JobProcess]
) -> Callable[[Path, str | Path], JobProcess]:
    """Start the training in a folder."""

    def start_one(folder: Path, dataset: str | Path) -> JobProcess:
        return start_job("train.py", "--config", settings, "--dataset", dataset, folder=folder)

    return start_one


def last_step(folder: Path) -> int:
    """Step of the latest complete checkpoint, 0 without one."""
    saved = [path.parent.name for path in (folder / "runs/run").glob("*/record.json")]
    return max((int(name.rpartition("-")[2]) for name in saved), default=0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = sorted(path.parent for path in (folder / "runs/run").glob("*/record.json"))
    return load_file(max(saved, key=lambda p: p.name.rpartition("-")[2]) / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(
    cluster: None,
    settings: Path,
    arrays_and_dataset: tuple[Any, Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Folder of the same training, never interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    given = ["--config", str(settings), "--dataset", arrays_and_dataset[1].storage.location]
    given += ["--storage.path", str(folder / "runs")]
    given += ["--tracking.uri", f"sqlite:///{folder}/mlflow.db"]
    fit(parse_job(TrainJob, given), print)
    return folder


def test_job_stopped_and_killed_and_started_again_ends_with_the_same_weights(
    start: Callable, arrays_and_dataset: tuple, undisturbed: Path, tmp_path: Path
) -> None:
    """Stopped as `ray job stop` does it in the middle of epoch 1, and killed in epoch 3, twice."""
    dataset = arrays_and_dataset[1].storage.location
    job = start(tmp_path, dataset)
    job.wait_for(lambda: last_step(tmp_path) > 0)
    job.stop()
    output = job.end(130)
    *_, goes_on, last = output.splitlines()
    assert goes_on == "stopping: the same command goes on from the latest checkpoint"
    assert last == "interrupted"
    assert "Traceback" not in output
    (run,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert run.info.status == "KILLED"
    for killed_at in (2 * STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 4):
        job = start(tmp_path, dataset)
        job.wait_for(lambda step=killed_at: last_step(tmp_path) >= step)
        job.kill()
        assert last_step(tmp_path) < 4 * STEPS_PER_EPOCH
    output = start(tmp_path, dataset).end()
    for words in (
        "run run",
        "continuing after epoch",
        "epoch 4/4",
        "validation (selected on)",
        "nothing was chosen on",
    ):
        assert words in output
    for words in ("Warning", "Traceback"):
        assert words not in output
    expected, found = weights(undisturbed), weights(tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder, write: None, "manifest.json: no such file"),
        (
            lambda folder, write: write(folder, {"one": 90}, ("01",), first_code=3000),
            "codes/one.parquet: code 3000 at TR 0; 0 to 1023 are accepted",
        ),
    ],
    ids=["no data set", "a code outside the codebook"],
)
def test_unusable_data_set_is_one_line_and_exit_code_2(
    tmp_path: Path,
    start: Callable,
    dataset_writer: Callable,
    make: Callable[[Path, Callable], Any],
    message: str,
) -> None:
    """In a process of its own; the second is found by a task on the cluster that reads."""
    make(tmp_path / "bad", dataset_writer)
    output = start(tmp_path / "job", tmp_path / "bad").end(2)
    *before, last = output.splitlines()
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in output
    assert len(before) <= 6  # the run, what it needs, and what it reads


# --- what is refused before anything is started -----------------------------------------------


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
def test_damaged_data_set_is_refused(
    arrays_and_dataset: tuple,
    tmp_path: Path,
    settings: Path,
    refusal: Callable[..., str],
    damage: Callable[[Path], Any],
    message: str,
) -> None:
    copy = Path(shutil.copytree(arrays_and_dataset[1].storage.location, tmp_path / "copy"))
    damage(copy)
    assert message in refusal("train.py", "--config", settings, "--dataset", copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nowhere"], "nowhere/manifest.json: no such file"),
        (["--train.batch_size", "5000"], "--train.batch_size 5000 is larger than the training"),
        (["--data.lag_seconds", "180"], "--data.split"),
        (["--data.voxels", "mask.npy"], "--data.voxels mask.npy: a mask of shape (25,); the data"),
        (["--model.audio_codebooks", "16"], "has 4 codebooks; use at most 4"),
        (["--model.kernel_sizes", "4"], "kernel_sizes is 4; odd positive widths are accepted"),
        (["--model.embd_dim", "4"], "did you mean model.embed_dim?"),
    ],
)
def test_bad_settings_are_refused_and_leave_nothing(
    arrays_and_dataset: tuple,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Path,
    refusal: Callable[..., str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "mask.npy", np.ones(25, bool))
    dataset = arrays_and_dataset[1].storage.location
    given = ["--config", settings, "--dataset", dataset, *arguments]
    assert message in refusal("train.py", *given)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.npy"]
