"""Runs in a folder, trained within this process and recorded in a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from giblet_ray.config import PromoteJob, TrainJob
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.tracking.mlflow_run import MlflowRun


@dataclass(frozen=True)
class StackLab:
    """Runs in a folder, and the store that they are recorded in."""

    folder: Path
    train: Callable[..., Any]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def run(self, name: str, model: Any, **groups: Any) -> None:
        """Train a run and record it."""
        settings = {"optimizer": {"lr": 5e-3}, **groups}
        job = TrainJob(dataset=str(self.folder / "data"), name=name, model=model, **settings)
        folder = self.folder / "runs" / name
        self.train(job, folder)
        self.record(name)

    def record(self, name: str, tags: dict[str, str] | None = None) -> str:
        folder = str(self.folder / "runs" / name)
        run = MlflowRun(self.uri, "giblet_ray", name, folder, tags)
        run.close("FINISHED")
        return run.id

    def job(self, **settings: Any) -> PromoteJob:
        """Make a job of this lab."""
        where = {"tracking": {"uri": self.uri}, "storage": {"path": str(self.folder / "runs")}}
        return PromoteJob(**where, **settings)

    def train_both(self, encoder: dict[str, Any], epochs: int) -> None:
        """Train an encoder that hears and reads, at one lag, and ridge that sees and reads."""
        train = {"epochs": epochs, "batch_trs": 64}
        self.run("first", encoder, data={"modalities": ("audio", "text")}, train=train)
        few = RidgeConfig(n_iter=3, n_alphas=5, components={"frames": 4, "text": 8})
        self.run("ridge", few, data={"modalities": ("video", "text")})
