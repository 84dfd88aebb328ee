"""A training on Ray Train: prepared by the driver, run by one worker per GPU, finished here."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.record import Position, RunRecord
from giblet_ray.checkpoint.store import best_checkpoint, is_sweep, latest_record
from giblet_ray.cluster import cluster_totals, connect
from giblet_ray.config import TrainJob
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import DataOrder
from giblet_ray.dataset.residence import hold_blocks, normalise, place_data, read_rows
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.environment import cluster_address
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.progress import Progress
from giblet_ray.settings import flat_settings
from giblet_ray.tracking.finish import RunEnd
from giblet_ray.tracking.mlflow_run import MlflowRun, ending
from giblet_ray.tracking.recorded_run import DATASET_TAG
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import check_batch, check_order, run_record
from giblet_ray.training.loop import is_finished
from giblet_ray.training.monitor import started_monitor
from giblet_ray.training.report import report_best
from giblet_ray.training.worker_group import run_workers

Check = Callable[[TrainJob, DataView, bool, Callable[[str], None]], None]


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes
    ----------
    dataset : str
        Folder or URI of the data set.
    run_folder : str
        Folder or URI that holds the run's checkpoints.
    score : Score
        What the best epoch was chosen by.
    best_location : str
        Folder or URI of the checkpoint of the best epoch.
    mlflow_run : MlflowRun
        Where MLflow has it.
    position : Position
        How far the training went, with its history of metrics by epoch.
    already_finished : bool
        There was nothing to do.
    """

    dataset: str
    run_folder: str
    score: Score
    best_location: str
    mlflow_run: MlflowRun
    position: Position
    already_finished: bool

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
            "held-out Pearson r": (
                f"mean {best[VAL_PEARSON]:.4f}, median {best['val/pearson_median']:.4f}, "
                f"95th percentile {best['val/pearson_p95']:.4f} over voxels "
                f"(epoch {best_epoch} of {self.position.epoch})"
            ),
            "speed": f"{statistics.median(speeds):,.0f} rows/s (median of epochs)",
        }
        if self.score != Score():
            summary["best by"] = f"{self.score.label}, {best[self.score.name]:.4f}"
        if not uri.startswith("http"):
            mlflow = Path(sys.executable).with_name("mlflow")
            summary["MLflow page"] = shlex.join([str(mlflow), "ui", "--backend-store-uri", uri])
        return summary


def fit(
    job: TrainJob, show: Callable[[str], None], check: Check = lambda *training: None
) -> Trained:
    """Train as a job says, or continue the run of that name.

    Runs on the cluster that is connected to, else on the one that RAY_ADDRESS names, else on one
    started on this machine.

    Parameters
    ----------
    job : TrainJob
        Validated settings.
    show : callable
        Is given each line that the user should see.
    check : callable, optional
        Is shown what will be trained before it is, and may refuse it with an InputError: the job,
        its data, placed on the cluster, whether workers have GPUs, and `show`.

    Raises
    ------
    InputError
        For settings that the data set, the cluster or an earlier run of this name do not allow, or
        if another job works on the run.
    """
    data = plan_data(job)
    check_batch(job, data)
    storage = Storage.at(job.storage.path)
    if is_sweep(storage, job.name):
        raise InputError(f"--name {job.name}: is a sweep already; give another --name")
    run_record(job, data, latest_record(storage, job.name))
    # Until here, nothing has been started or written: mistakes are told within seconds.
    with claimed(storage.describe(job.name), "--name"):
        return _fit(job, data, storage, show, check)


def _fit(
    job: TrainJob, data: DataView, storage: Storage, show: Callable[[str], None], check: Check
) -> Trained:
    """Train, while no other job works on the run."""
    before = latest_record(storage, job.name)
    position = Position() if before is None else before.position
    finished = is_finished(position, job.train)
    connect()
    use_gpu = choose_gpu(job)
    data = place_data(data, job.data.residence, use_gpu)
    run = run_record(job, data, before)
    if not finished:
        check_order(job, data, run.order)
        check(job, data, use_gpu, show)
    run_folder = storage.describe(job.name)
    mlflow_run = MlflowRun(job.tracking.uri, job.tracking.experiment, job.name, run_folder)
    end = RunEnd(mlflow_run, storage, job.name, job.tracking.patience_seconds, show)
    with ending(end):
        _describe_run(job, data, run, position, mlflow_run, show)
        if finished:
            show(f"run {job.name} is finished already; another --name trains anew")
        else:
            _train_on_workers(job, use_gpu, data, run, mlflow_run, show)
        found = best_checkpoint(storage, job.name)
        after = latest_record(storage, job.name)
        if found is None or after is None:
            raise InputError(f"{run_folder}: the run's checkpoints are gone")
        position = after.position
        score, log_model = Score(job.train.score), job.tracking.log_model
        how = (score, log_model, job.packages)
        end.report = partial(report_best, mlflow_run, found, position.history, *how)
    where = data.dataset.storage.location
    return Trained(where, run_folder, score, found.location, mlflow_run, position, finished)


def _describe_run(
    job: TrainJob,
    data: DataView,
    run: RunRecord,
    position: Position,
    mlflow_run: MlflowRun,
    show: Callable[[str], None],
) -> None:
    """Record what is trained on what, and earlier epochs, as far as MLflow does not have it."""
    where, checksum = data.dataset.storage.location, run.dataset.checksum
    if mlflow_run.is_new and position.step > 0:
        show(
            f"run {job.name} is not in MLflow, or was deleted there: it is recorded anew, but for "
            "its curves by step and system metrics until now, which lie nowhere else"
        )
    with tracking_errors(job.tracking.uri):
        if is_finished(position, job.train) and mlflow_run.has_tag(DATASET_TAG):
            return
        mlflow_run.epochs(position.history)
        mlflow_run.text(yaml.safe_dump(run.config, sort_keys=False), "config.yaml")
        mlflow_run.describe(flat_settings(run.config), where, checksum)


def _train_on_workers(
    job: TrainJob,
    use_gpu: bool,
    data: DataView,
    run: RunRecord,
    mlflow_run: MlflowRun,
    show: Callable[[str], None],
) -> None:
    """Read the data, and let the workers train."""
    show(f"reading {data.dataset.storage.location}: {data.residence}, {data.reason}")
    with Progress(show) as progress:
        progress.doing = "reading the data"
        rows = read_rows(data)  # owns the blocks: kept until the workers are done
        data = hold_blocks(data, rows)
        progress.doing = "z-scoring BOLD"
        normalisation = normalise(data, rows)
    for line in _describe_data(data, run.order, normalisation):
        show(line)
    with started_monitor(job.scaling.max_failures) as monitor:
        run_workers(job, use_gpu, data, run, normalisation, mlflow_run.address, monitor, show)


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


def _describe_data(data: DataView, order: DataOrder, normalisation: Normalisation) -> Iterator[str]:
    """Say what is trained on, and whatever is not."""
    subjects = len(data.selection.subjects)
    yield (
        f"{data.train.n_trs:,} training and {data.val.n_trs:,} held-out TRs of {subjects} "
        f"subject{'s' if subjects > 1 else ''}, {data.n_units:,} voxels"
    )
    if normalisation.n_masked:
        yield (
            f"{normalisation.n_masked:,} voxels take no part in loss and metrics: "
            f"{normalisation.n_not_finite:,} are not finite at some TR that trains or judges, the "
            "others constant in some scan's training TRs"
        )
    if lacking := data.n_lacking:
        yield f"{lacking:,} TRs of these scans are masked, or not in them: they are left out"
    if order.left_out:
        yield (
            f"the last {order.left_out} windows of each epoch's order are too few for a batch: "
            "left out"
        )
    if data.residence == "stream" and order.streamed is None:
        yield (
            "the run began with its data in memory and keeps that order: every row group is read "
            "again for each batch that it is in, which takes long"
        )
