"""A planned training, from the placing of its data to the report: what its driver does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from giblet_ray.checkpoint.record import Position, RunRecord
from giblet_ray.checkpoint.store import best_checkpoint, latest_record
from giblet_ray.config import TrainJob
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import DataOrder
from giblet_ray.dataset.residence import hold_blocks, normalise, place_data, read_rows
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.progress import Progress, Show
from giblet_ray.tracking.finish import RunEnd
from giblet_ray.tracking.mlflow_run import MlflowRun, ending
from giblet_ray.tracking.recorded_run import DATASET_TAG
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.training.finished import is_finished
from giblet_ray.training.identity import check_order, run_record
from giblet_ray.training.trainer import Check, Judge, Trained, choose_gpu
from giblet_ray.training.worker import Given
from giblet_ray.training.worker_group import Workers

if TYPE_CHECKING:
    import ray.data

_REPORT = "giblet_ray.training.report"
"""What draws and logs at the end: its libraries are imported while the workers train."""


def train_run(
    job: TrainJob,
    data: DataView,
    storage: Storage,
    show: Show,
    check: Check,
    judge: Judge | None,
    workers: Workers | None,
    store_ready: Callable[[], None] = lambda: None,
    rows: ray.data.Dataset | None = None,
) -> Trained:
    """Train on the cluster that is connected to, while no other job works on the run.

    Parameters
    ----------
    job, show, check, judge
        As :func:`giblet_ray.training.trainer.fit` is given them.
    data : DataView
        What is trained on.
    storage : Storage
        Where runs are kept.
    workers : Workers or None
        Train; None where the run is finished.
    store_ready : callable, optional
        See :func:`giblet_ray.tracking.ready.connect_beside_store`.
    rows : ray.data.Dataset, optional
        Owns the blocks that `data` has, where trainings share them.
    """
    before = latest_record(storage, job.name)
    position = Position() if before is None else before.position
    use_gpu = choose_gpu(job)
    data = place_data(data, job.data.residence, use_gpu)
    run = run_record(job, data, before)
    run_folder = storage.describe(job.name)
    if workers is not None:
        check_order(job, data, run.order)
        check(job, data, use_gpu, show, workers.free_before)
    store_ready()
    mlflow_run = MlflowRun(job.tracking.uri, job.tracking.experiment, job.name, run_folder)
    end = RunEnd(mlflow_run, storage, job.name, job.tracking.patience_seconds, show)
    with ending(end):
        _describe_run(job, data, run, position, mlflow_run, show)
        if workers is None:
            show(f"run {job.name} is finished already; another --name trains anew")
        else:
            _train(job, data, run, mlflow_run, show, rows, workers)
            workers.close()
        found = best_checkpoint(storage, job.name)
        after = latest_record(storage, job.name)
        if found is None or after is None:
            raise InputError(f"{run_folder}: the run's checkpoints are gone")
        position = after.position
        score, log_model = Score(job.train.score), job.tracking.log_model
        judged = None
        if judge is not None:
            judged = judge(storage, job.name, data.dataset, job.packages, show)
        how = (score, log_model, job.packages, judged)
        end.report = partial(_report, mlflow_run, found, position.history, *how)
    where = data.dataset.storage.location
    place = (where, run_folder, score, found.location, mlflow_run)
    return Trained(*place, position, workers is None, judged)


def _describe_run(
    job: TrainJob,
    data: DataView,
    run: RunRecord,
    position: Position,
    mlflow_run: MlflowRun,
    show: Show,
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
        mlflow_run.describe(run.settings, where, checksum)


def _train(
    job: TrainJob,
    data: DataView,
    run: RunRecord,
    mlflow_run: MlflowRun,
    show: Show,
    rows: ray.data.Dataset | None,
    workers: Workers,
) -> None:
    """Read the data, unless that is done, and let the workers train."""
    if rows is None:
        data, rows = read_data(data, show)  # the rows own the blocks: kept until workers are done
    with Progress(show) as progress:
        progress.doing = "z-scoring BOLD"
        normalisation = normalise(data, rows)
    for line in _describe_data(data, run.order, normalisation):
        show(line)
    if run.initial is not None:
        heads = "heads alone are" if job.train.freeze == "trunk" else "all of it is"
        show(f"begins with the trunk of {run.initial.checkpoint}; {heads} trained")
    given = Given(data, run, normalisation, mlflow_run.address)
    workers.train(given, show, when_training=partial(importlib.import_module, _REPORT))


def read_data(data: DataView, show: Show) -> tuple[DataView, ray.data.Dataset]:
    """Read the rows that training needs; return the data with their blocks, and what owns those."""
    show(f"reading {data.dataset.storage.location}: {data.residence}, {data.reason}")
    with Progress(show) as progress:
        progress.doing = "reading the data"
        rows = read_rows(data)
        return hold_blocks(data, rows), rows


def _report(*told: Any) -> None:
    importlib.import_module(_REPORT).report_best(*told)


def _describe_data(data: DataView, order: DataOrder, normalisation: Normalisation) -> Iterator[str]:
    """Say what is trained on, and whatever is not."""
    subjects = len(data.selection.subjects)
    yield (
        f"{data.train.n_trs:,} training and {data.val.n_trs:,} validation TRs of {subjects} "
        f"subject{'s' if subjects > 1 else ''}, {data.units_in_words} voxels"
    )
    if normalisation.n_masked:
        yield (
            f"{normalisation.n_masked:,} voxels, those of all subjects together, take no part in "
            f"their subject's loss and metrics: {normalisation.n_not_finite:,} are not finite at "
            "some TR that trains or judges, the others constant in some scan's training TRs"
        )
    if lacking := data.n_lacking:
        yield f"{lacking:,} TRs of these scans are masked, or not in them: they are left out"
    for part, films in data.lacking.items():
        yield f"{', '.join(films)}: no {part}; trains without"
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
