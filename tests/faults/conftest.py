"""One cluster of several raylets for all tests of faults, and the training that it suffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fault_cluster import EPOCHS, Cluster, Training

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.training.trainer import fit


@pytest.fixture(scope="session")
def raylets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of faults."""
    made = Cluster(tmp_path_factory.mktemp("c"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def words(
    arrays_and_dataset: tuple[Any, Dataset],
    tiny_model: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[str]:
    """Command line of a training of two workers that takes some seconds and checkpoints often."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    groups = {
        "name": "run",
        # Large enough that it is possible to be killed while a checkpoint is written.
        "model": {**tiny_model, "trunk_dims": [256, 512], "head_dim": 2048},
        "train": {
            "epochs": EPOCHS,
            "batch_trs": 16,
            "checkpoint_every_steps": 5,
            "log_every_steps": 1,
        },
        "scaling": {"num_workers": 2},
        "tracking": {"log_model": False},
    }
    path.write_text(yaml.safe_dump(groups))
    return ["--config", str(path), "--dataset", arrays_and_dataset[1].storage.location]


@pytest.fixture
def start(raylets: Cluster, words: list[str], tmp_path: Path) -> Iterator[Callable[..., Training]]:
    """Start the training on the cluster, in this test's folder; no driver outlives the test."""
    started: list[Training] = []

    def start_job(*more: str) -> Training:
        started.append(Training(raylets.environment, tmp_path / "job", [*words, *more]))
        return started[-1]

    yield start_job
    for job in started:
        job.kill()


@pytest.fixture(scope="session")
def undisturbed(cluster: None, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same training, never interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    given = [*words, "--storage.path", str(folder / "runs"), "--scaling.cpus_per_worker", "0.5"]
    fit(parse_job(TrainJob, [*given, "--tracking.uri", f"sqlite:///{folder}/mlflow.db"]), print)
    return folder / "runs/run"
