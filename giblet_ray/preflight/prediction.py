"""``predict.py --preflight``: what will be predicted, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from giblet_ray.cluster import connect
from giblet_ray.config import PredictJob, TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.prediction.folder import finished_predictions
from giblet_ray.prediction.formatted import plan_format
from giblet_ray.prediction.task import Task, plan_task
from giblet_ray.preflight.disk import disk_room
from giblet_ray.preflight.need import LIBRARY_BYTES, Need, gigabytes
from giblet_ray.preflight.placement import check_gpu, check_host, look_at_cluster
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.size import FLOAT_BYTES, measure_activations
from giblet_ray.progress import Progress, Show


class _What(NamedTuple):
    """Tasks, one after the other, and where what size of files is written."""

    tasks: Sequence[Task]
    storage: Storage
    to: str
    file_bytes: int


def preflight_prediction(job: PredictJob, show: Show) -> None:
    """Say what predicting will take; write nothing, book no GPU.

    Parameters
    ----------
    job, show
        As :func:`giblet_ray.prediction.predict.predict` takes them.

    Raises
    ------
    InputError
        For a model, data or folder that cannot be used, and where room is missing.
    """
    with Progress(show) as progress:
        progress.doing = "checking model and data set"
        what = _formatted(job) if job.format is not None else _as_folder(job)
        progress.doing = "looking at the cluster"
        connect()
        cluster = look_at_cluster(look_at_gpus=job.use_gpu is not False)
    plan = max(what.tasks, key=lambda task: task.predictions.value.nbytes)
    n_trs = sum(len(span) for task in what.tasks for span in task.spans)
    n_stimuli = len({film.name for task in what.tasks for film in task.predictions.stimuli})
    n_voxels = plan.predictions.value.shape[0]
    weights = sum(value.nbytes for value in plan.encoder.model.state_dict().values())
    record = plan.encoder.record
    settings = {group: record.config[group] for group in ("data", "model", "loss")}
    batch = {"batch_trs": max(2, job.batch_trs)}  # a training takes no single TR
    trained = TrainJob(dataset="", packages=job.packages, **settings, train=batch)
    # A model with context is given stretches, one at a time; another TRs from anywhere.
    window = job.batch_trs if plan.encoder.model.context_trs else 1
    # Those of each batch, and then as one.
    predictions = 2 * FLOAT_BYTES * plan.trs_at_a_time(job.batch_trs) * n_voxels
    # More than is held at a time: inference keeps no activations.
    need = Need(
        {"libraries": LIBRARY_BYTES, "predictions": predictions},
        {"a batch": measure_activations(trained, plan.encoder.shapes, 1, window)},
    )
    has_gpu = any(machine.gpus for machine in cluster.machines)
    use_gpu = has_gpu if job.use_gpu is None else job.use_gpu
    report = Report(show)
    report.add(
        "predictions",
        {
            "TRs": f"{n_trs:,} of {n_stimuli} stimuli, {n_voxels:,} voxels",
            "to": what.to,
            "disk": report.check(
                lambda needed: disk_room(what.storage, needed, "--out"),
                Need({}, {"files": what.file_bytes}),
            ),
        },
    )
    gpus = float(use_gpu)
    places = max(1, cluster.room(1, gpus))
    rows = {
        "weights": f"{gigabytes(weights)}, once per machine",
        "memory": report.check(
            lambda needed: check_host(cluster, places, 1, gpus, needed, weights),
            need,
            "use a smaller --batch_trs",
        ),
        "at a time": f"up to {places} batches of {job.batch_trs} TRs",
    }
    if use_gpu:
        rows["GPU"] = report.check(
            lambda needed: check_gpu(cluster, 1, weights + needed),
            Need({}, need.parts | need.estimates),
            "use a smaller --batch_trs",
        )
    report.add("cluster", rows)
    report.conclude("nothing was written")


def _as_folder(job: PredictJob) -> _What:
    task, storage = plan_task(job), Storage.at(job.out)
    there = finished_predictions(storage, task.predictions, job.overwrite)
    to = storage.location if there is None else "finished already, nothing to do"
    n_trs = sum(map(len, task.spans))
    rows = task.predictions.value.nbytes * n_trs
    return _What([task], storage, to, rows + task.space.file_bytes(n_trs))


def _formatted(job: PredictJob) -> _What:
    plan = plan_format(job)
    rows = sum(
        FLOAT_BYTES * task.space.n_units * sum(plan.wanted[subject].values())
        for subject, task in plan.tasks.items()
    )
    return _What([*plan.tasks.values()], plan.storage, plan.storage.describe(plan.file), rows)
