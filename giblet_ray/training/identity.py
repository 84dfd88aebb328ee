"""What a run is: its settings, data, order and units, as its checkpoints record them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from giblet_ray.checkpoint.record import DatasetRecord, RunRecord, Units, check_same_run
from giblet_ray.config import TrainJob
from giblet_ray.dataset.order import DataOrder, StreamedOrder
from giblet_ray.dataset.splits import SameFilm
from giblet_ray.dataset.storage import absolute
from giblet_ray.dataset.view import DataView
from giblet_ray.dataset.windows import batch_windows
from giblet_ray.errors import InputError
from giblet_ray.tracking.sqlite import absolute_uri
from giblet_ray.training.config import LEAST_EPOCHS, STEPS
from giblet_ray.training.initial import find_initial

_Job = TypeVar("_Job", bound=TrainJob)


def saved_config(job: TrainJob) -> dict[str, Any]:
    """Return the settings as they are saved with the run."""
    config = job.as_its_model.model_dump(mode="json")
    config["dataset"] = absolute(job.dataset)
    if job.init_from is not None:
        config["init_from"] = absolute(job.init_from)
    config["storage"]["path"] = absolute(job.storage.path)
    config["tracking"]["uri"] = absolute_uri(job.tracking.uri)
    return config


def chosen_units(data: DataView) -> tuple[Units, ...]:
    """Return which units are predicted, where those are not all of the data set's."""
    chosen: dict[tuple[int, bytes], list[str]] = {}
    for subject, indices in data.selection.units.items():
        of = data.dataset.manifest.subjects[subject].n_units
        chosen.setdefault((of, indices.astype(np.int64).tobytes()), []).append(subject)
    return tuple(
        Units.chosen(subjects, of, np.frombuffer(packed, np.int64))
        for (of, packed), subjects in chosen.items()
    )


def new_order(job: TrainJob, data: DataView) -> DataOrder:
    """Return the order that a run begins with: one that suits where its rows lie."""
    streamed = None
    if data.residence == "stream":
        step = data.dataset.manifest.row_group_trs
        streamed = StreamedOrder(row_group_trs=step, lanes=job.scaling.max_workers)
    return DataOrder(
        seed=job.train.seed,
        windows=len(data.train),
        window=data.window,
        batch_size=batch_windows(job.train.batch_trs, data.window),
        smallest_batch=smallest_batch(job, data),
        streamed=streamed,
    )


def sized(job: _Job, data: DataView) -> _Job:
    """Return a job that says how long it trains: where it does not, the size of its data does.

    Parameters
    ----------
    job : TrainJob
        Validated settings.
    data : DataView
        What it reads.
    """
    if job.train.epochs:
        return job
    epochs = max(LEAST_EPOCHS, math.ceil(STEPS / new_order(job, data).steps))
    return job.model_copy(update={"train": job.train.model_copy(update={"epochs": epochs})})


def run_record(job: TrainJob, data: DataView, before: RunRecord | None) -> RunRecord:
    """Return what a run is; one that goes on keeps the order that it began with.

    Parameters
    ----------
    job : TrainJob
        Settings.
    data : DataView
        What is read. Where its rows lie decides the order of a run that begins.
    before : RunRecord or None
        Of the run's latest checkpoint, if it has one.

    Raises
    ------
    InputError
        If that is of another run: of other settings, data, units or windows.
    """
    order = new_order(job, data)
    run = RunRecord(
        config=saved_config(job),
        dataset=DatasetRecord.model_validate(data.describe()),
        order=order if before is None else before.order,
        units=chosen_units(data),
        same=data.same,
        initial=find_initial(job, data) if before is None else before.initial,
    )
    if before is not None:
        check_same_run(before, run)
        if (before.order.windows, before.order.window) != (order.windows, order.window):
            raise InputError(
                f"run {job.name} was started with {before.order.windows} windows of at most "
                f"{before.order.window} TRs, where its settings now give {order.windows} of "
                f"{order.window}: give another --name"
            )
    return run


def kept_same(job: TrainJob, before: tuple[SameFilm, ...] | None) -> tuple[SameFilm, ...] | None:
    """Return the intervals that a run or sweep has kept, if the file that named them is gone."""
    path = job.data.split.same
    is_gone = path is not None and not Path(path).expanduser().exists()
    return before if is_gone else None


def smallest_batch(job: TrainJob, data: DataView) -> int:
    """Return the windows that a global batch needs for every rank to compute its part.

    Each accumulated part of a rank needs a window, and two rows for BatchNorm's statistics. The
    ranks are as many as there may ever be: batches do not change when an elastic run does.
    """
    return job.scaling.max_workers * _smallest_share(job, data)


def _smallest_share(job: TrainJob, data: DataView) -> int:
    # However long windows are, one may hold a single TR: between two that are masked.
    alone = job.model.normalises_batches and int(data.train.length.min()) == 1
    return job.train.accumulation * (2 if alone else 1)


def check_batch(job: TrainJob, data: DataView) -> None:
    """Make sure that every batch can be cut into parts for all workers.

    Raises
    ------
    InputError
        If it is too small, or larger than the training split.
    """
    if job.model.fitted:
        if job.scaling.max_workers > 1:
            raise InputError(
                f"--scaling.num_workers {job.scaling.max_workers}: {job.model.kind} is fitted by "
                "one worker; give it more with --scaling.cpus_per_worker"
            )
        return
    batch_trs, smallest = job.train.batch_trs, smallest_batch(job, data)
    windows = batch_windows(batch_trs, data.window)
    if windows < smallest:
        raise InputError(
            f"--train.batch_trs {batch_trs}: {job.scaling.max_workers} workers with "
            f"{job.train.accumulation} accumulated parts need at least {smallest} windows, of "
            f"{data.window} TRs: use at least {smallest * data.window}, or a shorter --data.window"
        )
    if windows > len(data.train):
        raise InputError(
            f"--train.batch_trs {batch_trs} is larger than the training split of "
            f"{data.train.n_trs} TRs in {len(data.train)} windows; use at most "
            f"{len(data.train) * data.window}"
        )


def check_order(job: TrainJob, data: DataView, order: DataOrder) -> None:
    """Make sure that a run can go on in the order that it began with.

    Raises
    ------
    InputError
        If its last batches are too small for the workers, or its rows fit no memory and streaming
        them was not asked for.
    """
    most = order.last_batch // _smallest_share(job, data)
    if job.scaling.max_workers > most:
        raise InputError(
            f"--scaling.num_workers {job.scaling.max_workers}: run {job.name} was started with "
            f"fewer, and keeps its batches, of which the last of an epoch has {order.last_batch} "
            f"windows: use at most {most}"
        )
    if data.residence == "stream" and order.streamed is None and job.data.residence == "auto":
        raise InputError(
            f"run {job.name} was started with its data in memory, and keeps that order; now it is "
            f"{data.reason}: give the nodes more, or --data.residence stream, which reads every "
            "row group again for each batch that it is in"
        )
