"""jobs/train.py in processes of its own: stopped, killed, and started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fault_cluster import assert_same_weights, last_step
from mlflow import MlflowClient
from processes import JobProcess

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.training.trainer import fit

STEPS_PER_EPOCH = 12


@pytest.fixture(scope="module")
def given(
    arrays_and_dataset: tuple[Any, Dataset],
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: dict[str, Any],
) -> list[str]:
    """What the job is given: a YAML file, and the data set."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    groups = {
        "name": "run",
        "model": tiny_model,
        "train": {"epochs": 4, "batch_trs": 16, "checkpoint_every_steps": 5},
        "scaling": {"num_workers": 2, "cpus_per_worker": 0.5},
        "tracking": {"log_model": False},
    }
    path.write_text(yaml.safe_dump(groups))
    return ["--config", str(path), "--dataset", arrays_and_dataset[1].storage.location]


@pytest.fixture(scope="module")
def uninterrupted(
    cluster: None, given: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of the same training, never interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    places = ["--storage.path", str(folder / "runs")]
    places += ["--tracking.uri", f"sqlite:///{folder}/mlflow.db"]
    fit(parse_job(TrainJob, [*given, *places]), print)
    return folder / "runs/run"


def test_job_stopped_and_killed_and_started_again_ends_with_the_same_weights(
    start_job: Callable[..., JobProcess], given: list[str], uninterrupted: Path, tmp_path: Path
) -> None:
    """Stopped as `ray job stop` does it in the middle of epoch 1, and killed in epoch 3, twice."""
    run = tmp_path / "runs/run"

    def start() -> JobProcess:
        return start_job("train.py", *given, folder=tmp_path)

    job = start()
    job.wait_for(lambda: last_step(run) > 0)
    job.stop()
    output = job.end(130)
    *_, goes_on, last = output.splitlines()
    assert goes_on == "stopping: the same command goes on from the latest checkpoint"
    assert last == "interrupted"
    assert "Traceback" not in output
    (recorded,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert recorded.info.status == "KILLED"
    for killed_at in (2 * STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 4):
        job = start()
        job.wait_for(lambda step=killed_at: last_step(run) >= step)
        job.kill()
        assert last_step(run) < 4 * STEPS_PER_EPOCH
    output = start().end()
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
    assert_same_weights(uninterrupted, run)
