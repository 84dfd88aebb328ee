"""Ray Train's workers: started, waited for, started again when some are lost, given up."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.v2._internal.constants import VALIDATE_STORAGE_MARKER_FILENAME
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

from giblet_ray.cluster import START_TIMEOUT, cluster_totals, free_resources
from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage, absolute
from giblet_ray.errors import InputError
from giblet_ray.progress import Show
from giblet_ray.training.config import StorageConfig
from giblet_ray.training.failures import Failures
from giblet_ray.training.lean_trainer import LeanTrainer
from giblet_ray.training.monitor import shown_monitor, started_monitor

if TYPE_CHECKING:
    from giblet_ray.training.worker import Given

_ERROR = "error.txt"
"""Traceback of the failure that a run was given up after."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Training:
    """What Ray Train is asked for."""

    told: dict[str, Any]
    """What :func:`giblet_ray.training.worker.train_worker` is given."""
    per_worker: Mapping[str, float]
    """What a worker reserves."""
    waits: int
    """Times that the workers are waited for before the controller fails."""
    callbacks: Sequence[UserCallback]
    """Are told of every report."""


Fit = Callable[[Training], TrainingFailedError | None]
"""Lets workers train, and returns what they have failed of."""


class Workers:
    """The workers of a run, which start while what they train on is made ready.

    Workers that are lost are started again, as long as that brings new checkpoints; where the
    cluster has no room for them, they are waited for. At the end of a `with`, they end.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    use_gpu : bool
        One GPU for each worker, or CPUs.
    callbacks : sequence of UserCallback
        Are told of every report.
    fit : callable, optional
        Does what :func:`fit_workers` does, and is given the same: workers start when it is called.

    Attributes
    ----------
    free_before : dict of str to float
        What of the cluster nothing had reserved until then.
    """

    def __init__(
        self,
        job: TrainJob,
        use_gpu: bool,
        callbacks: Sequence[UserCallback] = (),
        fit: Fit | None = None,
    ) -> None:
        # A path means the same in every worker's folder.
        job = job.model_copy(update={"storage": StorageConfig(path=absolute(job.storage.path))})
        self._job, self.free_before = job, free_resources()
        self._resources = ExitStack()
        self._monitor = self._resources.enter_context(started_monitor(job.scaling.max_failures))
        per_worker = {"CPU": job.scaling.cpus_per_worker, **({"GPU": 1} if use_gpu else {})}
        waits = math.ceil(job.scaling.wait_minutes * 60 / float(os.environ[START_TIMEOUT]))
        told = {"job": job, "monitor": self._monitor}
        self._training = Training(told, per_worker, waits, callbacks)
        if fit is None:
            started = self._resources.enter_context(_Started(self._training))
            self._fit: Fit = lambda training: started.wait()
        else:
            self._fit = fit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let them end, whatever they are at."""
        self._resources.close()

    def train(
        self,
        given: Given,
        show: Show,
        when_training: Callable[[], object] = lambda: None,
    ) -> None:
        """Let them train, from the run's latest checkpoint if it has one.

        Parameters
        ----------
        given : Given
            What they train on.
        show : Show
        when_training : callable, optional
            See :func:`giblet_ray.training.monitor.shown_monitor`.

        Raises
        ------
        InputError
            If training cannot go on: for a reason that lies in settings or data, because workers
            died too often, or because there is no room for them.
        """
        scaling, storage = self._job.scaling, Storage.at(self._job.storage.path)
        missing = partial(_what_is_missing, scaling.min_workers, self._training.per_worker)
        self._monitor.give.remote([ray.put(given)])
        with shown_monitor(self._monitor, show, missing, when_training):
            failure = self._fit(self._training)
        fatal, said = ray.get(self._monitor.fatal.remote())
        if fatal is not None:
            error = f"{self._job.name}/{_ERROR}"
            if said:
                with storage.write(error) as stream:
                    stream.write(said.encode())
                fatal += f"; more in {storage.describe(error)}"
            raise InputError(fatal) from failure
        if isinstance(failure, ControllerError):
            raise InputError(
                f"no room for {missing()} in {scaling.wait_minutes:g} minutes "
                "(--scaling.wait_minutes); the same command goes on from the latest checkpoint"
            ) from failure
        if failure is not None:
            raise failure


def train_worker(told: dict[str, Any]) -> None:
    """Do what a worker does, imported where it is one: whoever starts workers needs no torch."""
    from giblet_ray.training import worker

    worker.train_worker(told)


def fit_workers(training: Training) -> TrainingFailedError | None:
    """Let Ray Train's workers train; return what they, or their controller, have failed of.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, in a process whose main thread this is called in; the workers have ended.
    """
    return _Started(training).wait()


class _Started:
    """A training on Ray Train's workers, which has been started and can be waited for."""

    def __init__(self, training: Training) -> None:
        job: TrainJob = training.told["job"]
        scaling = job.scaling
        self._storage, self._run = Storage.at(job.storage.path), job.name
        self._trainer = LeanTrainer(
            train_worker,
            train_loop_config=training.told,
            scaling_config=ScalingConfig(
                num_workers=scaling.num_workers if scaling.is_elastic else scaling.max_workers,  # type: ignore[arg-type]  # typed as its first version
                use_gpu="GPU" in training.per_worker,
                resources_per_worker=dict(training.per_worker),
                elastic_resize_monitor_interval_s=scaling.resize_seconds,  # type: ignore[call-arg]
            ),
            run_config=RunConfig(
                name=job.name,
                storage_path=job.storage.path,
                failure_config=FailureConfig(  # type: ignore[call-arg]  # typed as its first version
                    max_failures=-1,  # the monitor counts, and forgets failures before a checkpoint
                    controller_failure_limit=training.waits,
                ),
                callbacks=[*training.callbacks, Failures(training.told["monitor"])],  # type: ignore[list-item]  # typed as its first version
            ),
        )
        self._ended: Future[None] = Future()
        # The main thread is to do other things meanwhile, and Ctrl-C is its own.
        threading.Thread(target=self._fit, name="workers", daemon=True).start()
        # Which takes a moment, and five times as long beside imports.
        self._trainer.begun.wait()

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        finally:
            self._trainer.begun.set()

    def wait(self) -> TrainingFailedError | None:
        """Wait until it ends: see :func:`fit_workers`."""
        try:
            # Ray cancels a task by a KeyboardInterrupt that wakes nobody who waits for a lock.
            while not self._ended.done():
                wait([self._ended], timeout=_LOOK_SECONDS)
            self._ended.result()
        except TrainingFailedError as error:
            return error
        except KeyboardInterrupt:
            self._trainer.abort()
            raise
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Let workers end that nobody has waited for, not waiting for that, and leave nothing."""
        if not self._ended.done():
            self._trainer.abort(wait=False)
            self._storage.delete(f"{self._run}/{VALIDATE_STORAGE_MARKER_FILENAME}")


def _what_is_missing(workers: int, per_worker: Mapping[str, float]) -> str:
    """Say what workers need, and what the cluster has of it."""
    needs = " and ".join(f"{amount:g} {name}" for name, amount in per_worker.items())
    free, totals = free_resources(), cluster_totals()
    has = ", ".join(
        f"{free.get(name, 0):g} of {totals.get(name, 0):g} {name} free" for name in per_worker
    )
    return f"{workers} worker{'s' if workers > 1 else ''} of {needs} each; the cluster has {has}"
