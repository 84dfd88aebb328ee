"""make demo, as a user runs it, and what its data shows: the ceiling, and each modality alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.models.trained import fetch_best_checkpoint
from giblet_ray.training.checkpoint import load_voxel_pearson
from giblet_ray.training.trainer import fit

ROOT = Path(__file__).parents[2]


def start(folder: Path, job: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "jobs" / job), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the demo has run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, finish(start(folder, "demo.py"))


@pytest.mark.timeout(900)
def test_demo_reaches_60_percent_of_the_noise_ceiling(demo: tuple[Path, str]) -> None:
    _, output = demo
    reached = re.search(r"noise ceiling +([\d.]+) of at most ([\d.]+): (\d+)%", output)
    assert reached, output
    assert float(reached[1]) >= 0.6 * float(reached[2])
    assert float(reached[2]) == pytest.approx(0.65, abs=0.01)


def test_demo_says_where_everything_is_and_nothing_else(demo: tuple[Path, str]) -> None:
    folder, output = demo
    for name in ("data set", "run", "best checkpoint", "MLflow page", "speed"):
        assert re.search(rf"^  {name} +\S", output, re.MULTILINE), name
    assert "Warning" not in output
    assert (folder / "demo/dataset/manifest.json").is_file()
    assert (folder / "mlflow.db").is_file()
    assert re.search(r"epoch 1/\d+ .* left", output)


def test_each_modality_alone_reaches_less_than_the_three_together(
    cluster: None, demo: tuple[Path, str]
) -> None:
    folder, _ = demo
    together = mean_pearson(folder / "demo/runs/demo-0")
    for name in ("video", "audio", "text"):
        given = ["--config", str(ROOT / "jobs/demo.yaml"), "--name", name]
        given += ["--dataset", str(folder / "demo/dataset")]
        # One modality has levelled off after half of the epochs.
        given += ["--storage.path", str(folder / "alone"), "--train.epochs", "10"]
        given += ["--tracking.uri", f"sqlite:///{folder}/alone.db", "--tracking.log_model", "false"]
        job = parse_job(TrainJob, [*given, "--data.modalities", name])
        fit(job, print)
        assert 0.05 < mean_pearson(folder / "alone" / name) < 0.85 * together, name


def mean_pearson(run: Path) -> float:
    checkpoint = fetch_best_checkpoint(Storage.at(str(run)), "")
    assert checkpoint is not None
    return float(load_voxel_pearson(checkpoint).mean())


def test_demo_started_again_goes_on_with_what_is_there(demo: tuple[Path, str]) -> None:
    folder, first = demo
    again = finish(start(folder, "demo.py"))
    assert "finished already" in again
    verdict = "noise ceiling"
    assert [line for line in first.splitlines() if verdict in line] == [
        line for line in again.splitlines() if verdict in line
    ]
