"""Whether a training is over."""

from __future__ import annotations

from giblet_ray.checkpoint.record import Position
from giblet_ray.evaluation.score import Score
from giblet_ray.training.config import TrainConfig


def is_finished(position: Position, settings: TrainConfig) -> bool:
    """Whether all epochs are done, or the last `patience` of them brought nothing better."""
    if position.epoch >= settings.epochs:
        return True
    waited = position.epoch - position.best_epoch(Score(settings.score))
    return bool(settings.patience) and position.epoch > 0 and waited >= settings.patience
