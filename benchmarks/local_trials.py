"""Small trainings in this process, one after the other, whose best epoch is kept and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from seed import SEED

from giblet_ray.checkpoint.store import best_checkpoint, keep_checkpoint
from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import MemoryLoader
from giblet_ray.dataset.residence import normalise_here
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.judge.judge import judge_run
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import run_record, sized
from giblet_ray.training.loop import BareLink, train
from giblet_ray.tuning.space import with_settings

_MODEL = {"text_features": 32, "trunk_dims": (32, 32), "bottleneck_dim": 16, "head_dim": 32}


@dataclass(frozen=True)
class Trial:
    """A run that is finished.

    Attributes
    ----------
    storage, name : Storage, str
        Where it is.
    val : float
        Validation r of its best epoch.
    """

    storage: Storage
    name: str
    val: float

    def test(self) -> float:
        """Return the test r of its best epoch, as jobs judge a run."""
        judged = judge_run(self.storage, self.name, None, (), lambda line: None)
        return judged.metrics["pearson_mean"]


class _KeepingLink(BareLink):
    """Keeps checkpoints in a run's folder."""

    def __init__(self, storage: Storage, run: str) -> None:
        super().__init__(torch.device("cpu"))
        self._place = storage, run

    def keep(self, folder: Path, name: str) -> None:
        """Keep it if it is the best."""
        keep_checkpoint(*self._place, folder, name)


def load_here(data: DataView) -> MemoryLoader:
    """Return what delivers all that a training reads, from this process's memory to its CPU."""
    held = HeldRows(
        [data.dataset.read(span, data.selection) for span in data.dataset.row_groups()],
        data.selection.value_types(data.dataset),
        data.scans,
        data.dataset.bold_trs,
    )
    return MemoryLoader(held, data.values, data.lag_trs, torch.device("cpu"), data.context_trs)


def train_trial(folder: Path, number: int, settings: Mapping[str, Any], epochs: int = 8) -> Trial:
    """Train an encoder of text on the data set ``folder/data``, with some settings."""
    base = TrainJob.model_validate(
        {
            "dataset": str(folder / "data"),
            "name": f"trial-{number}",
            "data": {"modalities": ("text",)},
            "model": {**SEED, **_MODEL},
            "train": {"epochs": epochs, "batch_trs": 32},
            "storage": {"path": str(folder / "runs")},
        }
    )
    return train_here(with_settings(base, dict(settings)))


def train_here(job: TrainJob) -> Trial:
    """Train as a job says, in this process."""
    data = plan_data(job)
    job = sized(job, data)
    run = run_record(job, data, None)
    storage = Storage.at(job.storage.path)
    link = _KeepingLink(storage, job.name)
    loader = load_here(data)
    windows = data.ordered(run.order)
    train(job, run, windows, loader, normalise_here(data), data.space_files(), link)
    best = best_checkpoint(storage, job.name)
    if best is None or best.record.score is None:
        raise RuntimeError(f"{job.name}: no epoch has a validation r")
    return Trial(storage, job.name, best.record.score)
