"""``train.py --preflight``: whether a training fits, in numbers measured on a few real steps."""

from __future__ import annotations

import math
from dataclasses import replace

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob
from giblet_ray.console import duration
from giblet_ray.dataset.residence import place_data
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.dataset.windows import batch_windows, equal_length_batches, rank_part
from giblet_ray.preflight.brief import (
    check_gpu_memory,
    check_host_memory,
    need_of_gpu,
    need_of_host,
    place_line,
)
from giblet_ray.preflight.disk import disk_room
from giblet_ray.preflight.facts import describe_parts, describe_split
from giblet_ray.preflight.need import Need, gigabytes
from giblet_ray.preflight.placement import Cluster, look_at_cluster
from giblet_ray.preflight.rehearsal import HELD_OF_EACH, Rehearsal, rehearse
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.sample import choose_sample
from giblet_ray.preflight.schedule import describe_schedule
from giblet_ray.preflight.size import StepSize, measure_activations, step_size
from giblet_ray.progress import Progress, Show
from giblet_ray.training.data import model_shapes, plan_data
from giblet_ray.training.folds import fold_jobs, folds_at_a_time
from giblet_ray.training.identity import check_batch, new_order, sized
from giblet_ray.training.trainer import choose_gpu

_KEPT_CHECKPOINTS = 4
"""Of each fold: the best, the last two, and the one that is being written."""


def preflight_training(job: TrainJob, show: Show) -> None:
    """Say whether a training fits, and what it will be like; write nothing, book no GPU.

    Parameters
    ----------
    job, show
        As :func:`giblet_ray.training.trainer.fit` takes them.

    Raises
    ------
    InputError
        If the training cannot be started, or does not fit.
    """
    data = plan_data(job)
    check_batch(job, data)
    job = sized(job, data)
    with Progress(show) as progress:
        progress.doing = "looking at the cluster"
        connect()
        use_gpu = choose_gpu(job)
        data = place_data(data, job.data.residence, use_gpu)
        cluster = look_at_cluster(look_at_gpus=use_gpu)
        report = Report(show)
        rehearsal = examine(job, data, use_gpu, cluster, report, progress)
        if not job.model.fitted:
            report.add("learning rate", describe_schedule(job, _counts(job, data)[0]))
        if rehearsal is not None:
            report.add("time", _times(job, data, rehearsal, use_gpu))
    report.conclude("nothing was written, and no training was started")


def examine(
    job: TrainJob,
    data: DataView,
    use_gpu: bool,
    cluster: Cluster,
    report: Report,
    progress: Progress,
) -> Rehearsal | None:
    """Report on data, split, memory, checkpoints and placement of a training.

    Returns
    -------
    Rehearsal or None
        What was measured; None if the model is too large to be tried on any machine there is, or
        is fitted at once, which has no steps.
    """
    ranks, cpus, gpus = job.scaling.min_workers, job.scaling.cpus_per_worker, float(use_gpu)
    share = len(rank_part(data.val, 0, ranks))
    progress.doing = "reading a sample of the data"
    size = batch_windows(job.train.batch_trs, data.window)
    sample = choose_sample(data, size, min(share, size), job.train.seed)
    tables = sample.read(data)
    normalisation = sample.normalisation(data, tables)
    report.add("data", describe_parts(data, sample, tables, normalisation))
    report.add("split", describe_split(data, job.data.split))

    progress.doing = "measuring a step"
    shapes = model_shapes(data)
    kept = measure_activations(job, shapes, ranks, data.window)
    step = replace(step_size(job, shapes, len(data.scans), ranks, data.window), activations=kept)
    on_cpu = need_of_host(job, data, step, use_gpu=False)
    expected = on_cpu.total + HELD_OF_EACH * step.elsewhere
    rehearsal = None
    if not job.model.fitted and any(
        machine.room(cpus, 0) and machine.reservable >= expected for machine in cluster.machines
    ):
        progress.doing = f"rehearsing a few steps, as soon as {cpus:g} CPU is free"
        rehearsal = rehearse(job, data, sample, tables, ranks, expected, step.elsewhere)
    report.add("memory", _memory(job, data, use_gpu, cluster, report, step, rehearsal))
    storage = Storage.at(job.storage.path)
    checkpoint = rehearsal.checkpoint_bytes if rehearsal else step.checkpoint
    kept = _KEPT_CHECKPOINTS * len(fold_jobs(job))
    room = report.check(
        lambda needed: disk_room(storage, needed, "--storage.path"),
        Need({"checkpoints": kept * checkpoint}),
    )
    report.add(
        "cluster",
        {
            "workers": place_line(job, cluster, gpus),
            **_folds(job, use_gpu),
            "data": f"{gigabytes(data.n_bytes)}, {data.residence}: {data.reason}",
            "checkpoint": f"{gigabytes(checkpoint)}, up to {kept} at a time: {room}",
        },
    )
    if rehearsal is not None:
        report.add("one batch", {"learned by heart": str(rehearsal.overfit)})
    return rehearsal


def _folds(job: TrainJob, use_gpu: bool) -> dict[str, str]:
    """Say how many folds train side by side, where a job asks for all."""
    n, at_a_time = len(fold_jobs(job)), folds_at_a_time(job, use_gpu)
    return {"folds": f"{n}, {at_a_time} at a time"} if n > 1 else {}


def _memory(
    job: TrainJob,
    data: DataView,
    use_gpu: bool,
    cluster: Cluster,
    report: Report,
    size: StepSize,
    rehearsal: Rehearsal | None,
) -> dict[str, str]:
    """Compare what workers need with what there is."""
    host, how = need_of_host(job, data, size, use_gpu), "counted"
    counted, folds = str(host), folds_at_a_time(job, use_gpu)
    if rehearsal is not None and not use_gpu:
        host, how = Need({"a worker": rehearsal.peak_bytes}), "measured in a rehearsal"
        counted = f"{counted} were counted"
    rows = {
        "parameters": f"{size.parameters:,}",
        "host, per worker": f"{gigabytes(host.total)} ({how}): {counted}",
        "host": check_host_memory(report, job, data, cluster, use_gpu, host, size, folds),
    }
    if use_gpu or job.scaling.use_gpu is None:
        gpu = need_of_gpu(job, data, size)
        rows["GPU, per worker"] = f"{gigabytes(gpu.total)} (counted): {gpu}"
        rows["GPU"] = "none in the cluster now: training is on CPUs, unless --scaling.use_gpu true"
    if use_gpu:
        rows["GPU"] = check_gpu_memory(report, job, cluster, gpu, size)
    return rows


def epoch_seconds(job: TrainJob, data: DataView, rehearsal: Rehearsal) -> float:
    """Return how long an epoch takes on CPUs: steps, evaluation and checkpoints."""
    steps, batches, checkpoints = _counts(job, data)
    return (
        steps * rehearsal.step_seconds
        + batches * rehearsal.evaluation_seconds
        + checkpoints * rehearsal.checkpoint_seconds
    )


def _counts(job: TrainJob, data: DataView) -> tuple[int, int, int]:
    """Return the steps, validation batches and checkpoints of an epoch of one rank."""
    ranks, every = job.scaling.min_workers, job.train.checkpoint_every_steps
    steps = len(data.ordered(new_order(job, data)).steps(0, 0, ranks))
    validated = rank_part(data.val, 0, ranks)
    batches = len(equal_length_batches(validated, max(1, job.train.batch_trs // ranks)))
    return steps, batches, 1 + ((steps - 1) // every if every else 0)


def _times(job: TrainJob, data: DataView, rehearsal: Rehearsal, use_gpu: bool) -> dict[str, str]:
    """Say how long an epoch and all of them take, from the steps of the rehearsal."""
    steps, batches, checkpoints = _counts(job, data)
    seconds = epoch_seconds(job, data, rehearsal)
    folds = len(fold_jobs(job))
    rounds = math.ceil(folds / folds_at_a_time(job, use_gpu))
    of = "" if folds == 1 else f", for all {folds} folds"
    note = "on CPUs; GPUs take a fraction of it" if use_gpu else "on this machine, alone"
    rows = job.train.batch_trs / rehearsal.step_seconds
    return {
        "step": f"{rehearsal.step_seconds * 1e3:,.0f} ms, {rows:,.0f} rows/s ({note})",
        "epoch": (
            f"{duration(seconds)}: {steps:,} steps, {batches:,} batches of validation windows, "
            f"{checkpoints:,} x {rehearsal.checkpoint_seconds:.1f} s for checkpoints"
        ),
        "all epochs": (
            f"{duration(rounds * job.train.epochs * seconds)} for {job.train.epochs} at most{of}"
        ),
    }
