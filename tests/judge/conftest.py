"""What tests of judging share: a data set of two repeats, and runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from once import make_once

from giblet_ray.checkpoint.seeds import Seeds, keep_seeds
from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.storage import Storage
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.opened import open_run
from giblet_ray.models.ridge.config import RidgeConfig

SEEDS = Seeds(score="val/pearson_mean", scores=(0.3, 0.2))
"""What the encoder's settings would reach with two seeds."""
HOLE = ScanKey("02", "two", 2), 180
"""A scan's TR that has no number."""


@pytest.fixture(scope="session")
def lab(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> Path:
    """A data set of two repeats, long enough to be shifted, an encoder and ridge on it.

    One scan has a TR of NaN among those that are judged.
    """

    def make(folder: Path) -> Path:
        return _make_lab(folder, dataset_writer, train_locally, tiny_model)

    return make_once(tmp_path_factory, "judged", make)


def _make_lab(
    folder: Path,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> Path:
    mask = np.zeros((4, 5, 3), bool)
    mask.flat[np.random.default_rng(0).permutation(60)[:24]] = True

    def hole(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        if key == HOLE[0]:
            bold[HOLE[1]] = np.nan
        return bold

    films = {"one": 240, "two": 200}
    scans = {"repeats": 2, "mask": mask, "change_bold": hole}
    dataset_writer(folder / "data", films, ("01", "02"), **scans)
    for name, model, more in (
        ("first", tiny_model, {"data": {"modalities": ("audio", "text")}}),
        ("ridge", RidgeConfig(n_iter=3, n_alphas=5), {"data": {"modalities": ("audio", "text"),
                                                               "lag_seconds": 0.0}}),
    ):  # fmt: skip
        train = {"epochs": 1 if name == "ridge" else 4, "batch_trs": 64}
        job = TrainJob(
            dataset=str(folder / "data"), name=name, model=model, train=train,
            optimizer={"lr": 5e-3}, **more,
        )  # fmt: skip
        train_locally(job, folder / "runs" / name)
    keep_seeds(Storage.at(str(folder / "runs")), "first", SEEDS)
    return folder


@pytest.fixture(scope="session")
def evaluation(lab: Path) -> Any:
    """What is said of the encoder, with a shared ceiling and ridge beside it."""
    job = EvaluateJob(run=("first",), ceiling="subjects", permutations=199, resamples=200)
    lines: list[str] = []
    return evaluate_run(
        [str(lab / "runs/first")],
        job,
        lines.append,
        lambda opened, parts: open_run(str(lab / "runs/ridge")),
    )
