"""A training on Ray Train: planned here, run by one worker per GPU, and what has come of it.

What is wrong with settings and data is told before Ray, MLflow and torch are imported: that takes
seconds, starting them more. Ray's processes start while MLflow is imported and its store made, and
workers while the data is read.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.record import Position
from giblet_ray.checkpoint.store import is_sweep, latest_record
from giblet_ray.cluster import cluster_totals
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import SameFilm
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.environment import cluster_address
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.progress import Show
from giblet_ray.tracking.ready import connect_beside_store
from giblet_ray.training.data import plan_data
from giblet_ray.training.finished import run_is_finished
from giblet_ray.training.identity import check_batch, kept_same, run_record, sized

if TYPE_CHECKING:
    from giblet_ray.tracking.mlflow_run import MlflowRun
    from giblet_ray.training.worker_group import Workers

Check = Callable[[TrainJob, DataView, bool, Show, Mapping[str, float]], None]
Judge = Callable[[Storage, str, Dataset, tuple[str, ...], Show], Judged]


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    dataset: str
    """Folder or URI of the data set."""
    run_folder: str
    """Folder or URI that holds the run's checkpoints."""
    score: Score
    """What the best epoch was chosen by."""
    best_location: str
    """Folder or URI of the checkpoint of the best epoch."""
    mlflow_run: MlflowRun
    """Where MLflow has it."""
    position: Position
    """How far the training went, with its history of metrics by epoch."""
    already_finished: bool
    """There was nothing to do."""
    judged: Judged | None
    """Its test; None where it was not asked for."""

    def summary(self) -> dict[str, str]:
        """Return where things are and how good the best epoch was, for the user to read."""
        best_epoch = self.position.best_epoch(self.score)
        best = self.position.history[best_epoch - 1]
        speeds = [metrics["train/rows_per_second"] for metrics in self.position.history]
        uri = self.mlflow_run.uri
        summary = {
            "data set": self.dataset,
            "run": self.run_folder,
            "best checkpoint": self.best_location,
            "MLflow run": f"{self.mlflow_run.id} in {uri}",
            "validation (selected on)": (
                f"r mean {best[VAL_PEARSON]:.4f}, median {best['val/pearson_median']:.4f} over "
                f"voxels (epoch {best_epoch} of {self.position.epoch})"
            ),
            "speed": f"{statistics.median(speeds):,.0f} rows/s (median of epochs)",
        }
        if self.judged is not None:
            summary[self.judged.name] = self.judged.in_words()
        if self.score != Score():
            summary["best by"] = f"{self.score.label}, {best[self.score.name]:.4f}"
        if not uri.startswith("http"):
            mlflow = Path(sys.executable).with_name("mlflow")
            summary["MLflow page"] = shlex.join([str(mlflow), "ui", "--backend-store-uri", uri])
        return summary


def fit(
    job: TrainJob,
    show: Show,
    check: Check = lambda *training: None,
    judge: Judge | None = None,
    same: Sequence[SameFilm] | None = None,
) -> Trained:
    """Train as a job says, or continue the run of that name.

    Runs on the cluster that is connected to, else on the one that RAY_ADDRESS names, else on one
    started on this machine.

    Parameters
    ----------
    job : TrainJob
        Validated settings.
    show : Show
    check : callable, optional
        Is shown what will be trained before it is, and may refuse it with an InputError: the job,
        its data, placed on the cluster, whether workers have GPUs, `show`, and what of the cluster
        nothing had reserved before the workers were asked for.
    judge : callable, optional
        Scores the chosen checkpoint on the test TRs once training has ended; see
        :func:`giblet_ray.judge.judge.judge_run`.
    same : sequence of SameFilm, optional
        Intervals of films that show the same, as another run has kept them (default: as
        ``data.split.same`` says).

    Raises
    ------
    InputError
        For settings that the data set, the cluster or an earlier run of this name do not allow, or
        if another job works on the run.
    """
    job, data = plan_training(job, same)
    storage = Storage.at(job.storage.path)
    with claimed(storage.describe(job.name), "--name"):
        store_ready = connect_beside_store(job.tracking.uri)
        with nullcontext() if run_is_finished(job, storage) else _workers(job) as workers:
            from giblet_ray.training.session import train_run

            return train_run(job, data, storage, show, check, judge, workers, store_ready)


def _workers(job: TrainJob) -> Workers:
    from giblet_ray.training.worker_group import Workers

    return Workers(job, choose_gpu(job))


def plan_training(
    job: TrainJob, same: Sequence[SameFilm] | None = None
) -> tuple[TrainJob, DataView]:
    """Return the job as its data size it, and what it reads, or goes on with.

    Nothing is started or written: mistakes are told within seconds. Parameters and errors are those
    of :func:`fit`.
    """
    storage = Storage.at(job.storage.path)
    before = latest_record(storage, job.name)
    if same is None:
        same = kept_same(job, None if before is None else before.same)
    data = plan_data(job, same=same)
    check_batch(job, data)
    job = sized(job, data)
    if is_sweep(storage, job.name):
        raise InputError(f"--name {job.name}: is a sweep already; give another --name")
    run_record(job, data, before)
    return job, data


def choose_gpu(job: TrainJob) -> bool:
    """Decide whether to train on GPUs.

    Raises
    ------
    InputError
        If this machine can never place the workers.
    """
    totals = cluster_totals()
    gpus, cpus = totals.get("GPU", 0), totals.get("CPU", 0)
    use_gpu = gpus > 0 if job.scaling.use_gpu is None else job.scaling.use_gpu
    if cluster_address():
        return use_gpu  # a cluster may grow
    workers = job.scaling.min_workers
    if use_gpu and workers > gpus:
        raise InputError(
            f"--scaling.num_workers {workers} needs {workers} GPUs; this machine has {gpus:g}"
        )
    if workers * job.scaling.cpus_per_worker > cpus:
        raise InputError(
            f"--scaling.num_workers {workers} of {job.scaling.cpus_per_worker:g} CPUs each; this "
            f"machine has {cpus:g}: use fewer, or a smaller --scaling.cpus_per_worker"
        )
    return use_gpu
