"""One trial, in a process of Ray Tune's: the training loop over blocks that all trials share.

With one worker the trial trains right here; a process that has trained one goes on with the next.
With more, it starts Ray Train's workers and hands on what they report::

    object store blocks, one copy a node
        |            |            |
     trial 0      trial 1      trial 2 ── worker 0
                                       └─ worker 1
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ray import tune
from ray.exceptions import RayError

from giblet_ray.checkpoint.claim import DEAD_SECONDS, claimed
from giblet_ray.checkpoint.record import Record, read_record
from giblet_ray.checkpoint.store import keep_checkpoint, latest_record, open_latest
from giblet_ray.config import TrainJob
from giblet_ray.dataset.residence import normalise_here, open_loader
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import check_batch, check_order, run_record
from giblet_ray.training.loop import train
from giblet_ray.tuning.journal import trial_folder
from giblet_ray.tuning.space import Settings, with_settings

if TYPE_CHECKING:
    from giblet_ray.training.worker import Point


@dataclass(frozen=True)
class TrialConfig:
    """What one trial is told."""

    number: int
    """Its number."""
    settings: Settings
    """Values of the searched settings."""
    known_epochs: int
    """Epochs whose metrics the sweep has, from before it was killed."""


@dataclass(frozen=True)
class Shared:
    """What is the same for all trials."""

    job: TrainJob
    """Settings, of which each trial replaces some; its storage path is the sweep's folder."""
    data: DataView
    """The blocks, with all that any trial reads."""
    use_gpu: bool
    """Train on GPUs."""


def trial_job(base: TrainJob, number: int, settings: Settings) -> TrainJob:
    """Return the training that a trial is: its folder is below the sweep's."""
    return with_settings(base, {**settings, "name": trial_folder(number)})


def run_trial(config: dict[str, Any], shared: Shared) -> None:
    """Train as one of the trials, and report to Ray Tune.

    A report has the metrics of an epoch (``epoch``, ``val/...``) and the points of
    the training curves since the last (``points``). An error is reported as well, in one line
    (``failed``) and with its ``traceback``: it would only come again, and is no reason to lose
    the process.
    """
    trial: TrialConfig = config["trial"]
    try:
        job = trial_job(shared.job, trial.number, trial.settings)
        folder = Storage.at(job.storage.path).describe(job.name)
        # Begun again on another machine, it waits until what it was there counts as dead.
        with claimed(folder, "--name", patience=2 * DEAD_SECONDS, lost=partial(os._exit, 1)):
            _train(job, trial, shared)
    except RayError:
        raise  # a process or node is lost: Ray Tune tries again
    except Exception as error:  # noqa: BLE001 - told to the sweep, which goes on with other trials
        tune.report({"failed": cause_of(error), "traceback": traceback.format_exc()})


def _train(job: TrainJob, trial: TrialConfig, shared: Shared) -> None:
    """Train, while no other process works on the trial."""
    data = trial_data(shared, job)
    before = latest_record(Storage.at(job.storage.path), job.name)
    run = run_record(job, data, before)
    check_order(job, data, run.order)
    if before is not None:
        _report_history(before, trial.known_epochs)
    normalisation = normalise_here(data)
    if job.scaling.max_workers == 1:
        torch.set_num_threads(max(1, int(job.scaling.cpus_per_worker)))
        link = TrialLink(job, torch.device("cuda" if shared.use_gpu else "cpu"))
        loader = open_loader(data, link.device, run.order)
        train(job, run, data.ordered(run.order), loader, normalisation, data.space_files(), link)
        return
    # Here, so that trials of one worker begin without Ray Train.
    from ray.tune.integration.ray_train import TuneReportCallback

    from giblet_ray.training.worker import Given
    from giblet_ray.training.worker_group import Workers

    # Made here, and not in the driver: it reports to the trial that it is made in.
    callbacks = [TuneReportCallback()]
    with Workers(job, shared.use_gpu, callbacks) as workers:
        workers.train(Given(data, run, normalisation, None), _keep_quiet)


def trial_data(shared: Shared, job: TrainJob) -> DataView:
    """Return what a trial reads of the blocks that all share."""
    is_same = job.data.split.same == shared.job.data.split.same
    data = plan_data(job, shared.data.dataset, shared.data.same if is_same else None)
    check_batch(job, data)
    return replace(
        data,
        residence=shared.data.residence,
        may_move_to_device=shared.data.may_move_to_device,
        blocks=shared.data.blocks,
        held=shared.data.selection,
    )


def cause_of(error: BaseException) -> str:
    """Say in one line why a trial has failed."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    if isinstance(error, InputError):
        return first
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in first:
        return f"out of memory: {first}"
    return f"{type(error).__name__}: {first}"


def _report_history(record: Record, known_epochs: int) -> None:
    """Report what the trial's latest checkpoint knows, and the sweep did not live to hear."""
    history = record.position.history
    for metrics in history[known_epochs:]:
        points = record.unsent if metrics is history[-1] else []
        tune.report({**metrics, "points": points})


def _keep_quiet(line: str) -> None:
    """The sweep's table says what there is to say."""


class TrialLink:
    """The :class:`giblet_ray.training.loop.Link` of a trial that trains in its own process."""

    rank, world_size = 0, 1
    awaits_checkpoints = True

    def __init__(self, job: TrainJob, device: torch.device) -> None:
        self.device = device
        self._storage, self._run = Storage.at(job.storage.path), job.name
        self._points: list[Point] = []

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Give the folder of the latest checkpoint that is whole, if there is one."""
        with open_latest(self._storage, self._run, self.show) as folder:
            if folder is not None:
                self._points = [(step, metrics) for step, metrics in read_record(folder).unsent]
            yield folder

    def keep(self, folder: Path, name: str) -> None:
        """Store the checkpoint."""
        keep_checkpoint(self._storage, self._run, folder, name)

    def report(self, metrics: dict[str, float]) -> None:
        """Report an epoch to Ray Tune, which may end the trial here."""
        if "epoch" in metrics:
            points, self._points = self._points, []
            tune.report({**metrics, "points": points})

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Keep points for the next report."""
        self._points.append((step, metrics))

    def unsent(self) -> list[Any]:
        """Return the points that no report has had."""
        return self._points

    def show(self, line: str) -> None:
        """Say nothing: the sweep's table does."""
