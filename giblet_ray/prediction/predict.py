"""Predicted BOLD for films with shards: check, predict on the cluster, write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.cluster import connect, outlive_losses
from giblet_ray.config import PredictJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.prediction.folder import (
    RECORD,
    Predicted,
    Predictions,
    finished_predictions,
    whole_or_nothing,
    write_record,
)
from giblet_ray.prediction.task import Task, plan_task
from giblet_ray.prediction.writer import open_writer, written
from giblet_ray.progress import Progress, Show


@dataclass(frozen=True)
class Summary:
    """Finished predictions, and what they took."""

    out: str
    """Their folder."""
    predictions: Predictions
    """What was predicted with what."""
    seconds: float
    """Time that predicting took (s), starting aside."""
    already_finished: bool
    """They were there before."""

    def rows(self) -> dict[str, str]:
        """Return names and values for the user."""
        made = self.predictions
        n_trs = sum(stimulus.n_trs for stimulus in made.stimuli)
        version = f" ({made.model.version})" if made.model.version else ""
        masked = f", {made.masked_voxels:,} of them NaN" if made.masked_voxels else ""
        size = sum(shard.bytes for shard in made.shards)
        without = [
            *made.without,
            *(f"{part} of {s.name}" for s in made.stimuli for part in s.without),
        ]
        rows = {
            "model": f"{made.model.asked}{version}",
            **({"subject": made.subject} if made.subject else {}),
            **({"without": ", ".join(without)} if without else {}),
            "data set": made.dataset.location,
            "predictions": self.out,
            "TRs": f"{n_trs:,} of {len(made.stimuli)} stimuli, BOLD from TR {made.lag_trs} on",
            "voxels": f"{made.value.shape[0]:,}{masked}; {made.units}",
            "files": f"{len(made.shards)} and {RECORD}, {size / 1e6:,.2f} MB",
        }
        if not self.already_finished:
            rows["speed"] = f"{n_trs / self.seconds:,.0f} TRs/s"
        return rows


def predict(job: PredictJob, show: Show) -> Summary:
    """Predict the BOLD response to the stimuli of a data set.

    Everything that can be wrong is told first. Then the rows are read and predicted on the
    cluster that is connected to (one on this machine, where there is none), and written here, in
    order, as they come; each file is whole or not there, and so is the folder.

    Parameters
    ----------
    job : PredictJob
        Model, data set, and where to.
    show : Show

    Raises
    ------
    InputError
        For anything that the user gave and that cannot be used.
    """
    storage = Storage.at(job.out)
    with Progress(show) as progress:
        progress.doing = "checking model and data set"
        task = plan_task(job)
        there = finished_predictions(storage, task.predictions, job.overwrite)
        if there is None:
            for note in task.notes:
                show(f"note: {note}")
            with claimed(storage.location, "--out"):
                # Of another job, which has ended meanwhile.
                there = finished_predictions(storage, task.predictions, job.overwrite)
                if there is None:
                    return _make(task, job, storage, show, progress)
        show(f"{storage.location}: finished already, of the same model and data")
        return Summary(storage.location, there, 0.0, already_finished=True)


def _make(task: Task, job: PredictJob, storage: Storage, show: Show, progress: Progress) -> Summary:
    """Start, and predict, also if a worker is lost, while no other job works on the folder."""
    progress.doing = "starting"
    connect()
    started = progress.seconds
    made = outlive_losses(
        lambda: _written(task, job, storage, progress),
        lambda: show("a worker was lost; predicting anew"),
    )
    return Summary(storage.location, made, progress.seconds - started, already_finished=False)


def _written(task: Task, job: PredictJob, storage: Storage, progress: Progress) -> Predictions:
    """Predict and write everything."""
    with whole_or_nothing(storage, task.predictions.paths):
        stimuli = tuple(_predicted(task, job, storage, progress))
        made = task.predictions.model_copy(update={"stimuli": stimuli})
        write_record(storage, made)
    return made


def _predicted(
    task: Task, job: PredictJob, storage: Storage, progress: Progress
) -> Iterator[Predicted]:
    """Predict and write one stimulus after the other."""
    from giblet_ray.prediction.pipeline import predicted_blocks

    stimuli = {stimulus.name: stimulus for stimulus in task.predictions.stimuli}
    n_trs, done = sum(stimulus.n_trs for stimulus in stimuli.values()), 0
    blocks = predicted_blocks(task, job.batch_trs, job.use_gpu)
    for name, of_stimulus in groupby(blocks, key=lambda block: block[0]):
        with open_writer(
            storage, task.predictions, stimuli[name], task.space, task.units
        ) as writer:
            for _, trs_T, bold_TV in of_stimulus:
                writer.add(trs_T, bold_TV)
                done += len(trs_T)
                progress.doing = f"{done:,} of {n_trs:,} TRs predicted"
        yield written(storage, task.predictions, stimuli[name])
