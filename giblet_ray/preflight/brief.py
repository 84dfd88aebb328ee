"""A few lines at the start of every training and sweep: told by shapes alone, in no time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from giblet_ray.config import TrainJob
from giblet_ray.dataset.order import STREAM_AHEAD_BYTES, STREAM_MIX_ROW_GROUPS, STREAM_READERS
from giblet_ray.dataset.splits import IN_WORDS, SETS, smallest_p_line
from giblet_ray.dataset.view import DataView
from giblet_ray.preflight.need import Need, gigabytes, gpu_need, host_need
from giblet_ray.preflight.placement import (
    Cluster,
    check_gpu,
    check_host,
    look_at_cluster,
    placement,
)
from giblet_ray.preflight.report import Report
from giblet_ray.progress import Show
from giblet_ray.training.data import model_shapes
from giblet_ray.training.folds import folds_at_a_time

if TYPE_CHECKING:
    from giblet_ray.preflight.size import StepSize

_ON_TOP = "; what a step keeps for its backward pass comes on top: --preflight measures it"
_FIT_ON_TOP = "; BOLD and a kernel of each part, of all training TRs of a subject, come on top"


def check_training(
    job: TrainJob,
    data: DataView,
    use_gpu: bool,
    show: Show,
    free: Mapping[str, float] | None = None,
) -> None:
    """Say in a few lines what a training needs at the least; refuse one that cannot fit.

    Nothing is started and nothing read.

    Parameters
    ----------
    job : TrainJob
        Validated settings; those that train at a time of its folds are counted.
    data : DataView
        Its data, or a fold's, placed on the cluster that is connected to.
    use_gpu : bool
        Workers have a GPU each.
    show : Show
    free : mapping of str to float, optional
        What nothing had reserved before the job's own workers did (default: has now).

    Raises
    ------
    InputError
        If weights, gradients, optimizer and batches alone need more memory than the machines, or
        the GPUs, have; unless forced.
    """
    report = tell_training(job, data, use_gpu, show, folds_at_a_time(job, use_gpu), free)
    report.refuse(job.preflight.force)


def tell_training(
    job: TrainJob,
    data: DataView,
    use_gpu: bool,
    show: Show,
    at_a_time: int,
    free: Mapping[str, float] | None = None,
) -> Report:
    """Say what :func:`check_training` does, of some at a time; return what does not fit."""
    # Here, so that a job which is refused for its settings has not waited for torch.
    from giblet_ray.preflight.size import step_size

    report = Report(show)
    cluster = look_at_cluster(False, free)
    ranks = job.scaling.min_workers
    size = step_size(job, model_shapes(data), len(data.scans), ranks, data.window)
    show(f"{size.parameters:,} parameters; checkpoints of {gigabytes(size.checkpoint)}")
    host = need_of_host(job, data, size, use_gpu)
    memory = check_host_memory(report, job, data, cluster, use_gpu, host, size, at_a_time)
    on_top = _FIT_ON_TOP if job.model.fitted else _ON_TOP
    show(f"host memory: {memory}{'' if use_gpu else on_top}")
    if use_gpu:
        gpu = need_of_gpu(job, data, size)
        show(f"GPU memory: {check_gpu_memory(report, job, cluster, gpu, size)}{on_top}")
    show(f"{split_line(data)}; {place_line(job, cluster, float(use_gpu))}")
    return report


def check_host_memory(
    report: Report,
    job: TrainJob,
    data: DataView,
    cluster: Cluster,
    use_gpu: bool,
    need: Need,
    size: StepSize,
    at_a_time: int,
) -> str:
    """Say how all that train at a time fit their machines; note in the report if they do not."""
    workers, cpus, shared = job.scaling.max_workers, job.scaling.cpus_per_worker, shared_bytes(data)
    gpus = float(use_gpu)
    return report.check(
        lambda needed: check_host(cluster, workers, cpus, gpus, needed, shared, at_a_time),
        need,
        remedy(job, size, need),
    )


def check_gpu_memory(
    report: Report, job: TrainJob, cluster: Cluster, need: Need, size: StepSize
) -> str:
    """Say how a worker fits the GPUs; note in the report if it does not."""
    said = remedy(job, size, need)
    if not cluster.gpus_were_seen:
        need = Need({}, need.parts | need.estimates)
    return report.check(
        lambda needed: check_gpu(cluster, job.scaling.cpus_per_worker, needed), need, said
    )


def shared_bytes(data: DataView) -> int:
    """Return the bytes that all workers of a node hold together, in its object store."""
    return 0 if data.residence == "stream" else data.n_bytes


def streamed_bytes(job: TrainJob, data: DataView) -> int:
    """Return the bytes of the rows that wait in a worker for their batch, if data is streamed."""
    if data.residence != "stream":
        return 0
    lanes = math.ceil(job.scaling.max_workers / job.scaling.min_workers)
    around = data.lag_trs + data.context_trs + data.window - 1
    span_trs = data.dataset.manifest.row_group_trs + around
    span_bytes = span_trs * data.selection.row_bytes(data.dataset)
    ahead = max(STREAM_READERS * span_bytes, STREAM_AHEAD_BYTES)
    return min(lanes * STREAM_MIX_ROW_GROUPS * span_bytes + ahead, data.n_bytes)


def made_once_bytes(data: DataView, size: StepSize) -> int:
    """Return the bytes of all films' vectors that a worker keeps."""
    return size.vectors * (data.n_bytes // data.selection.row_bytes(data.dataset))


def validated_bytes(job: TrainJob, data: DataView) -> int:
    """Return the bytes that a worker keeps of its validation rows for metrics of a user's own: of
    each unit prediction and BOLD, and both once more when they are put together."""
    if not job.train.metrics:
        return 0
    rows = math.ceil(data.val.n_trs / job.scaling.min_workers)
    return 2 * 2 * 4 * rows * max(model_shapes(data).units.values())


def need_of_host(job: TrainJob, data: DataView, size: StepSize, use_gpu: bool) -> Need:
    """Return what each worker needs of its machine's memory for itself."""
    of_data = streamed_bytes(job, data), made_once_bytes(data, size), validated_bytes(job, data)
    return host_need(size, job.scaling.min_workers, use_gpu, *of_data)


def need_of_gpu(job: TrainJob, data: DataView, size: StepSize) -> Need:
    """Return what each worker needs of its GPU, the data included if it was asked to live there."""
    bf16 = job.train.precision != "fp32"
    resident = data.n_bytes if data.residence == "device" else 0
    resident += made_once_bytes(data, size)
    return gpu_need(size, job.scaling.min_workers, bf16, resident)


def remedy(job: TrainJob, size: StepSize, need: Need) -> str:
    """Say what to change so that less is needed, by what takes most of it."""
    if size.activations > need.total / 2 and size.windows > 2 * size.parts:
        parts = 2 * size.parts
        return (
            f"use --train.accumulation {parts}, which takes {gigabytes(size.activations / 2)} off, "
            f"or a smaller --train.batch_trs than {job.train.batch_trs}"
        )
    return "use a smaller model, or fewer voxels (--data.voxels)"


def split_line(data: DataView) -> str:
    """Return the split, what it costs and what it allows, in one line."""
    split, tr_seconds = data.split, data.dataset.manifest.tr_seconds
    counts = [f"{sum(map(len, split.spans(name))):,} {IN_WORDS[name]}" for name in SETS]
    return (
        f"split: {counts[0]}, {counts[1]} and {counts[2]} TRs, {split.n_lost:,} lost to gaps; "
        f"{windows_line(data)}; smallest p {smallest_p_line(split, tr_seconds)}"
    )


def windows_line(data: DataView) -> str:
    """Return what trains in one line: how many windows, how long, and what context costs."""
    length = f"{data.window} TR" if data.window == 1 else f"up to {data.window} TRs"
    windows = f"{len(data.train):,} windows of {length}"
    if not data.context_trs:
        return windows
    seconds = data.context_trs * data.dataset.manifest.tr_seconds
    return (
        f"{windows} and {data.context_trs} ({seconds:g} s) of context, "
        f"{data.context_share:.0%} of the stimulus rows"
    )


def place_line(job: TrainJob, cluster: Cluster, gpus: float) -> str:
    """Return in one line whether the cluster can place the workers."""
    scaling = job.scaling
    fewest, most = scaling.min_workers, scaling.max_workers
    return placement(cluster, fewest, most, scaling.cpus_per_worker, gpus)
