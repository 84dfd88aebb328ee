"""jobs/train.py on a user's command line: what it says, and what it cannot use."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_model: dict[str, Any]) -> Path:
    """A YAML file of what the jobs here are given."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    groups = {
        "name": "run",
        "model": tiny_model,
        "train": {"epochs": 2, "batch_trs": 16, "checkpoint_every_steps": 5},
        "scaling": {"num_workers": 1},
        "tracking": {"log_model": False},
    }
    path.write_text(yaml.safe_dump(groups))
    return path


@pytest.mark.slow
def test_a_run_that_was_interrupted_is_continued_by_the_same_command(
    arrays_and_dataset: tuple[Any, Dataset],
    settings: Path,
    train_locally: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(settings), "--dataset", arrays_and_dataset[1].storage.location]
    words += ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db"]
    job = parse_job(TrainJob, words)
    with pytest.raises(Exception, match="killed here"):
        train_locally(job, tmp_path / "runs/run", lambda m: m.get("step") == 5)
    said = say("train.py", *words)
    for words_said in (
        "run run",
        "continuing after epoch 0, step 5",
        "epoch 2/2",
        "validation (selected on)",
        "nothing was chosen on",
        f"jobs/evaluate.py --run run --tracking.uri sqlite:///{tmp_path}/mlflow.db",
    ):
        assert words_said in said
    assert "is finished already" in say("train.py", *words)


@pytest.mark.slow
def test_a_new_persons_head_is_trained_on_the_trunk_of_another_run(
    arrays_and_dataset: tuple[Any, Dataset],
    settings: Path,
    train_locally: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(settings), "--dataset", arrays_and_dataset[1].storage.location]
    job = parse_job(TrainJob, [*words, "--data.subjects", "01"])
    train_locally(job, tmp_path / "runs/run")
    words = ["--init-from", "runs/run", "--train.freeze", "trunk", "--data.subjects", "02"]
    words += ["--name", "new", "--train.epochs", "1", "--train.batch_trs", "16"]
    words += ["--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db"]
    said = say("train.py", *words)
    assert "begins with the trunk of " in said
    assert "heads alone are trained" in said
    assert "validation (selected on)" in said
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/new/*/record.json"))
    assert record["dataset"]["subjects"] == {"02": 24}
    assert record["config"]["model"]["embed_dim"] == job.model.embed_dim
    refused = say("train.py", *words, "--name", "other", "--data.modalities", "text", code=2)
    assert "--init-from runs/run: the parts that are read (--data.modalities)" in refused


def test_a_code_outside_the_codebook_is_one_line_though_a_task_on_the_cluster_finds_it(
    dataset_writer: Callable[..., Any],
    settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Callable[..., str],
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset_writer(tmp_path / "bad", {"one": 90}, ("01",), first_code=3000)
    words = ["--dataset", "bad", "--tracking.uri", f"sqlite:///{tmp_path}/mlflow.db"]
    said = say("train.py", "--config", settings, *words, code=2)
    *before, last = said.splitlines()
    assert last.startswith("error: ")
    assert "codes/one.parquet: code 3000 at TR 0; 0 to 1023 are accepted" in last
    assert "Traceback" not in said
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
        (["--train.batch_trs", "5000"], "--train.batch_trs 5000 is larger than the training"),
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
