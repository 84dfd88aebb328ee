"""A sweep of tiny models over the small data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset


@pytest.fixture
def tune_job(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any], tmp_path: Path
) -> Any:
    """Make a sweep's job; its records and its MLflow store lie in the test's folder."""

    def make(sweep: dict[str, Any], **groups: Any) -> TuneJob:
        settings: dict[str, Any] = {
            "data": {"split": {"val_blocks": 1}},
            "model": tiny_model,
            "train": {"epochs": 3, "batch_size": 16},
            "optimizer": {"lr": 1e-2},
        }
        for key, value in groups.items():
            settings[key] = {**settings.get(key, {}), **value}
        tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "log_model": False}
        return TuneJob(
            dataset=arrays_and_dataset[1].storage.location,
            name="sweep",
            storage={"path": str(tmp_path / "runs")},
            tracking={**tracking, **settings.pop("tracking", {})},
            sweep=sweep,
            **settings,
        )

    return make
