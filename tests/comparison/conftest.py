"""A store of real trainings: tiny ones, in this process, over a data set long enough for blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from once import make_once

from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.store import open_store
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import run_record

EXPERIMENT = "comparing <b>films</b>"
SPLIT = {"val_fraction": 0.35, "test_fraction": 0.1}


@dataclass(frozen=True)
class Store:
    """A tracking store with trainings of one experiment, and where everything is."""

    uri: str
    experiment: str
    dataset: str
    folder: Path
    ids: dict[str, str]


RUNS: dict[str, dict[str, Any]] = {
    "good": {},
    "wide": {"model": {"embed_dim": 8, "kernel_sizes": [3]}},
    "silent": {"data": {"modalities": ["text"]}},
    "slow": {"optimizer": {"lr": 1e-4}},
    "late": {"data": {"lag_seconds": 7.5}},
    "hasty": {"optimizer": {"lr": 3e-2}, "model": {"kernel_sizes": [3, 5, 7]}},
    "other-split": {"data": {"split": {**SPLIT, "blocks": 2}}},
}
"""Settings by group, on top of the tiny model's."""


def _make_run(name: str, score: float | None = 0.1, **more: Any) -> ComparedRun:
    """A run whose score is that of its second epoch."""
    curves = {} if score is None else {"val/pearson_mean": {1: score - 0.05, 2: score, 3: score}}
    known: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "sweep": None,
        "status": "FINISHED",
        "cause": "",
        "folder": "",
        "dataset": "ab" * 32,
        "dataset_name": "film",
        "commit": "c" * 40,
        "seconds": 12.0,
        "settings": {},
        "curves": curves,
    }
    return ComparedRun(**{**known, **more})


@pytest.fixture(scope="session")
def make_run() -> Callable[..., ComparedRun]:
    """Make runs out of plain numbers."""
    return _make_run


@pytest.fixture(scope="session")
def store(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    tiny_model: dict[str, Any],
    train_locally: Callable[[TrainJob, Path], Any],
) -> Store:
    """Seven trainings, and a sweep of a stopped and a failed trial; nobody may write to it."""

    def make(folder: Path) -> Store:
        return _make_store(folder, dataset_writer, tiny_model, train_locally)

    return make_once(tmp_path_factory, "compared", make)


def _make_store(
    folder: Path,
    dataset_writer: Callable[..., Any],
    tiny_model: dict[str, Any],
    train_locally: Callable[[TrainJob, Path], Any],
) -> Store:
    dataset = folder / "film"
    dataset_writer(dataset, {"one": 303, "two": 181}, ("01", "02"), n_codebooks=2)
    checksum = Dataset.open(str(dataset)).manifest.checksum
    uri = f"sqlite:///{folder}/mlflow.db"
    ids = {}

    def make_job(name: str, groups: dict[str, Any]) -> TrainJob:
        return TrainJob(
            dataset=str(dataset),
            name=name,
            data={"split": SPLIT, "modalities": ["audio", "text"], **groups.get("data", {})},
            model={**tiny_model, "dropout": 0.0, **groups.get("model", {})},
            optimizer={"lr": 1e-2, **groups.get("optimizer", {})},
            train={"epochs": 2, "batch_trs": 64, **groups.get("train", {})},
            storage={"path": str(folder / "runs")},
            tracking={"uri": uri, "experiment": EXPERIMENT},
        )

    log = MetricLog(uri)
    for name, groups in RUNS.items():
        job, run_folder = make_job(name, groups), folder / "runs" / name
        run = MlflowRun(uri, EXPERIMENT, name, str(run_folder))
        link = train_locally(job, run_folder)
        run.describe(run_record(job, plan_data(job), None).settings, str(dataset), checksum)
        for step, metrics in link.points:
            log.log(run.id, metrics, step)
        best = max(link.reports, key=lambda metrics: metrics["val/pearson_mean"])
        run.metrics({f"best/{key}": value for key, value in best.items() if "val/" in key})
        run.close("FINISHED")
        ids[name] = run.id
    assert log.close(60) == []

    sweep = SweepRuns(uri, EXPERIMENT, "night", Storage.at(str(folder / "runs/night")), print, "")
    ids["night"] = sweep.parent.id
    for number in range(2):
        trial = f"{number:04d}"
        job = make_job(trial, {"model": {"embed_dim": 2 + number}})
        settings = run_record(job, plan_data(job), None).settings
        sweep.begin(number, trial, settings, str(dataset), checksum)
    stopped = make_job("0000", {"model": {"embed_dim": 2}, "train": {"epochs": 1}})
    link = train_locally(stopped, folder / "runs/night/0000")
    sweep.log("0000", link.points)
    sweep.end("0000", "stopped", "asha: r 0.1 at epoch 1 is too low", {}, "")
    sweep.end("0001", "failed", "loss is NaN <in epoch 1>", {}, "")
    sweep.close("FINISHED", 60)
    ids |= {run.name: run.id for run in open_store(uri).runs()}
    return Store(uri, EXPERIMENT, str(dataset), folder, ids)
