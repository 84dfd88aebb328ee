"""Ray Train's workers: started, waited for, started again when some are lost, given up."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.cluster import START_TIMEOUT, cluster_totals, free_resources
from giblet_ray.config import TrainJob
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.storage import Storage, absolute
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.tracking.points import RunAddress
from giblet_ray.training.config import StorageConfig
from giblet_ray.training.lean_trainer import LeanTrainer
from giblet_ray.training.monitor import Failures, shown_monitor
from giblet_ray.training.worker import train_worker

Fit = Callable[
    [dict[str, Any], Mapping[str, float], int, Sequence[UserCallback]], TrainingFailedError | None
]

_ERROR = "error.txt"
"""Traceback of the failure that a run was given up after."""


def run_workers(
    job: TrainJob,
    use_gpu: bool,
    data: DataView,
    run: RunRecord,
    normalisation: Normalisation,
    mlflow: RunAddress | None,
    monitor: Any,
    show: Callable[[str], None],
    callbacks: Sequence[UserCallback] = (),
    when_training: Callable[[], object] = lambda: None,
    fit: Fit | None = None,
) -> None:
    """Train with Ray Train's workers, from the run's latest checkpoint if it has one.

    Workers that are lost are started again, as long as that brings new checkpoints; where the
    cluster has no room for them, they are waited for.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    use_gpu : bool
        One GPU for each worker, or CPUs.
    data, run, normalisation
        What :func:`giblet_ray.training.worker.train_worker` is given.
    mlflow : RunAddress or None
        Run that rank 0 logs to. Without one, the points of the curves are reported with the
        metrics of their epoch, as ``points``.
    monitor : ActorHandle
        The run's :class:`giblet_ray.training.monitor.Monitor`.
    show : callable
        Is given each line that the user should see.
    callbacks : sequence of UserCallback
        Are told of every report.
    when_training : callable, optional
        See :func:`giblet_ray.training.monitor.shown_monitor`.
    fit : callable, optional
        Does what :func:`fit_workers` does, and is given the same.

    Raises
    ------
    InputError
        If training cannot go on: for a reason that lies in settings or data, because workers died
        too often, or because there is no room for them.
    """
    # A path means the same in every worker's folder.
    job = job.model_copy(update={"storage": StorageConfig(path=absolute(job.storage.path))})
    scaling, storage = job.scaling, Storage.at(job.storage.path)
    per_worker = {"CPU": scaling.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}
    missing = partial(_what_is_missing, scaling.min_workers, per_worker)
    waits = math.ceil(scaling.wait_minutes * 60 / float(os.environ[START_TIMEOUT]))
    told = {
        "job": job,
        "data": data,
        "run": run,
        "normalisation": normalisation,
        "mlflow": mlflow,
        "monitor": monitor,
    }
    with shown_monitor(monitor, show, missing, when_training):
        failure = (fit or fit_workers)(told, per_worker, waits, callbacks)
    fatal, said = ray.get(monitor.fatal.remote())
    if fatal is not None:
        if said:
            with storage.write(f"{job.name}/{_ERROR}") as stream:
                stream.write(said.encode())
            fatal += f"; more in {storage.describe(f'{job.name}/{_ERROR}')}"
        raise InputError(fatal) from failure
    if isinstance(failure, ControllerError):
        raise InputError(
            f"no room for {missing()} in {scaling.wait_minutes:g} minutes "
            "(--scaling.wait_minutes); the same command goes on from the latest checkpoint"
        ) from failure
    if failure is not None:
        raise failure


def fit_workers(
    told: dict[str, Any],
    per_worker: Mapping[str, float],
    waits: int,
    callbacks: Sequence[UserCallback],
) -> TrainingFailedError | None:
    """Let Ray Train's workers train; return what they, or their controller, have failed of.

    Parameters
    ----------
    told : dict
        What :func:`giblet_ray.training.worker.train_worker` is given.
    per_worker : mapping of str to float
        What a worker reserves.
    waits : int
        Times that the workers are waited for before the controller fails.
    callbacks : sequence of UserCallback
        Are told of every report.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, in a process whose main thread this is called in.
    """
    job: TrainJob = told["job"]
    scaling = job.scaling
    trainer = LeanTrainer(
        train_worker,
        train_loop_config=told,
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers if scaling.is_elastic else scaling.max_workers,  # type: ignore[arg-type]  # typed as its first version
            use_gpu="GPU" in per_worker,
            resources_per_worker=dict(per_worker),
            elastic_resize_monitor_interval_s=scaling.resize_seconds,  # type: ignore[call-arg]
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=job.storage.path,
            failure_config=FailureConfig(  # type: ignore[call-arg]  # typed as its first version
                max_failures=-1,  # the monitor counts, and forgets failures before a checkpoint
                controller_failure_limit=waits,
            ),
            callbacks=[*callbacks, Failures(told["monitor"])],  # type: ignore[list-item]  # typed as its first version
        ),
    )
    try:
        trainer.fit()
    except SystemExit as end:  # how Ray Train ends a training after Ctrl-C
        raise KeyboardInterrupt from end
    except TrainingFailedError as error:
        return error
    return None


def _what_is_missing(workers: int, per_worker: Mapping[str, float]) -> str:
    """Say what workers need, and what the cluster has of it."""
    needs = " and ".join(f"{amount:g} {name}" for name, amount in per_worker.items())
    free, totals = free_resources(), cluster_totals()
    has = ", ".join(
        f"{free.get(name, 0):g} of {totals.get(name, 0):g} {name} free" for name in per_worker
    )
    return f"{workers} worker{'s' if workers > 1 else ''} of {needs} each; the cluster has {has}"
