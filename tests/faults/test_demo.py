"""make demo, as a user runs it, and what its data shows: the ceiling, and each modality alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import JobProcess

from giblet_ray.checkpoint.files import VOXELS, load_voxel_pearson
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the demo has run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, JobProcess("demo.py", folder=folder).end(seconds=1500)


@pytest.mark.timeout(1800)
def test_demo_reaches_60_percent_of_the_noise_ceiling(demo: tuple[Path, str]) -> None:
    folder, output = demo
    reached = re.search(r"of the ceiling +(\d+)%, by the file .*noise_ceiling.npy", output)
    assert reached, output
    assert "Warning" not in output
    assert re.search(r"epoch 1/\d+ .* left", output)
    assert int(reached[1]) >= 60
    ceiling_V = np.load(folder / "demo/source/noise_ceiling.npy")
    assert ceiling_V.mean() == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_each_modality_alone_reaches_less_than_the_three_together(
    demo: tuple[Path, str],
    train_locally: Callable[[TrainJob, Path], Any],
    tmp_path: Path,
    modality: str,
) -> None:
    folder, _ = demo
    given = ["--config", str(ROOT / "jobs/demo.yaml"), "--dataset", str(folder / "demo/dataset")]
    given += ["--data.modalities", modality, "--train.patience", "5"]
    train_locally(parse_job(TrainJob, given), tmp_path)
    together = mean_pearson(folder / "demo/runs/demo-0")
    # Validation r 0.16 of video, 0.23 of audio and 0.30 of text, beside 0.54.
    assert 0.1 < mean_pearson(tmp_path) < 0.7 * together


def mean_pearson(run: Path) -> float:
    with find_checkpoint(str(run)).files((VOXELS,)) as folder:
        return float(load_voxel_pearson(folder).mean())
