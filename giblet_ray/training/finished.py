"""Whether a training is over."""

from __future__ import annotations

from giblet_ray.checkpoint.record import Position
from giblet_ray.checkpoint.store import latest_record
from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.score import Score
from giblet_ray.training.config import TrainConfig


def is_finished(position: Position, settings: TrainConfig) -> bool:
    """Whether all epochs are done, or the last `patience` of them brought nothing better."""
    if position.epoch >= settings.epochs:
        return True
    waited = position.epoch - position.best_epoch(Score(settings.score))
    return bool(settings.patience) and position.epoch > 0 and waited >= settings.patience


def run_is_finished(job: TrainJob, storage: Storage) -> bool:
    """Whether a job's run has been trained, and to its end."""
    before = latest_record(storage, job.name)
    return before is not None and is_finished(before.position, job.train)
