"""A sweep of tiny models over the small data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset


@pytest.fixture(scope="session")
def make_tune_job(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., TuneJob]:
    """Make a sweep's job whose records and MLflow store lie in a folder."""

    def make(folder: Path, sweep: dict[str, Any], **groups: Any) -> TuneJob:
        settings: dict[str, Any] = {
            "model": tiny_model,
            "train": {"epochs": 3, "batch_size": 16},
            "optimizer": {"lr": 1e-2},
        }
        for key, value in groups.items():
            settings[key] = {**settings.get(key, {}), **value}
        return TuneJob(
            dataset=arrays_and_dataset[1].storage.location,
            name="sweep",
            storage={"path": str(folder / "runs")},
            tracking={"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
            sweep=sweep,
            **settings,
        )

    return make


@pytest.fixture
def tune_job(make_tune_job: Callable[..., TuneJob], tmp_path: Path) -> Callable[..., TuneJob]:
    """Make a sweep's job in the test's own folder."""
    return partial(make_tune_job, tmp_path)
