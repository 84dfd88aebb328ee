"""Folds side by side: each a run of its own, all over one copy of the data.

::

    object store blocks, one copy a node
        |            |            |
     fold 1       fold 2       fold 3        their workers; folder and MLflow run of each
        |            |            |
    process      process      process        wait for the workers; Ctrl-C reaches them
        `------ threads of the job ----'     z-score, judge and report, as of a run alone

Ray Train ends a training early where it runs in a process's main thread alone: each fold has a
process for it, which reserves nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import TaskCancelledError
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.judged import Judged
from giblet_ray.cluster import free_resources
from giblet_ray.config import TrainJob
from giblet_ray.dataset.residence import place_data
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.environment import cluster_address
from giblet_ray.errors import InputError
from giblet_ray.progress import Show
from giblet_ray.training.finished import run_is_finished
from giblet_ray.training.folds import folds_at_a_time
from giblet_ray.training.session import read_data, train_run
from giblet_ray.training.trainer import Check, Judge, Trained, choose_gpu
from giblet_ray.training.worker_group import Training, Workers, fit_workers


def train_side_by_side(
    job: TrainJob,
    planned: Sequence[tuple[TrainJob, DataView]],
    show: Show,
    check: Check,
    judge: Judge,
) -> Iterator[tuple[str, Trained]]:
    """Train all folds of a job on the cluster that is connected to.

    As many at a time as its machines have room for. Each gives the numbers that it gives alone.

    Parameters
    ----------
    job : TrainJob
        Asks for all folds.
    planned : sequence of (TrainJob, DataView)
        One of each fold, and what it reads.
    show, check, judge
        See :func:`giblet_ray.training.trainer.fit`. Lines begin with the name of their fold; the
        check is of the whole job, with the data of the first that is not finished.

    Yields
    ------
    name, trained : str, Trained
        Of each fold, as they end.

    Raises
    ------
    InputError
        Once all others have ended, if some have failed.
    """
    jobs, storage = [each for each, _ in planned], Storage.at(job.storage.path)
    use_gpu = choose_gpu(job)
    at_a_time = folds_at_a_time(job, use_gpu)
    placed = [place_data(plan, job.data.residence, use_gpu) for _, plan in planned]
    begun, rows = _first_unfinished(jobs, storage), None
    if begun is not None:
        check(job, placed[begun], use_gpu, show, free_resources())
        show(f"{len(jobs)} folds, {at_a_time} at a time")
        if placed[0].residence != "stream":
            held, rows = read_data(placed[0], show)  # the rows own the blocks
            placed = [replace(each, blocks=held.blocks) for each in placed]
    processes, judging = _Processes(), threading.Lock()

    def judge_one(*finished: Any) -> Judged:
        with judging:  # one model more than those that train, and not one for each
            return judge(*finished)

    def train(each: TrainJob, data: DataView) -> Trained:
        def say(line: str) -> None:
            show(f"{each.name}: {line}")

        with claimed(storage.describe(each.name), "--name"):
            finished = run_is_finished(each, storage)
            own = nullcontext() if finished else Workers(each, use_gpu, fit=processes.fit)
            with own as workers:
                return train_run(
                    each, data, storage, say, lambda *checked: None, judge_one, workers, rows=rows
                )

    failed: dict[str, Exception] = {}
    with ThreadPoolExecutor(at_a_time) as threads:
        try:
            pairs = zip(jobs, placed, strict=True)
            running = {threads.submit(train, each, data): each.name for each, data in pairs}
            for ended in as_completed(running):
                name, error = running[ended], ended.exception()
                if isinstance(error, Exception):
                    failed[name] = error
                    show(f"{name}: failed: {_in_words(error)}")
                else:
                    yield name, ended.result()
        except BaseException:  # Ctrl-C
            threads.shutdown(wait=False, cancel_futures=True)
            processes.stop()
            raise
    if failed:
        reasons = "; ".join(f"{name}: {_in_words(error)}" for name, error in failed.items())
        raise InputError(
            f"{len(failed)} of {len(jobs)} folds failed: {reasons}; the same command goes on with "
            "what is not finished"
        ) from next(iter(failed.values()))


class _Processes:
    """Processes that wait for the workers of a fold each, until all are stopped."""

    def __init__(self) -> None:
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[ray.ObjectRef] = set()

    def fit(self, training: Training) -> TrainingFailedError | None:
        """Do what :func:`giblet_ray.training.worker_group.fit_workers` does, in a process."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        how: dict[str, Any] = {"scheduling_strategy": here}
        if cluster_address():  # Ray Train takes them from where it is started
            variables = {k: v for k, v in os.environ.items() if k.startswith("RAY_TRAIN_")}
            how["runtime_env"] = {"env_vars": variables}
        task = ray.remote(num_cpus=0, max_calls=1)(fit_workers)
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            waiting = task.options(**how).remote(training)
            self._running.add(waiting)
        try:
            return ray.get(waiting)
        except TaskCancelledError as error:
            raise KeyboardInterrupt from error
        finally:
            with self._lock:
                self._running.discard(waiting)

    def stop(self) -> None:
        """Do in each process what Ctrl-C does; no other starts."""
        with self._lock:
            self._stopped = True
            for waiting in self._running:
                ray.cancel(waiting, recursive=False)


def _first_unfinished(jobs: Sequence[TrainJob], storage: Storage) -> int | None:
    unfinished = (n for n, job in enumerate(jobs) if not run_is_finished(job, storage))
    return next(unfinished, None)


def _in_words(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0]}"
