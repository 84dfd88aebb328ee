"""What a user is told while a model trains."""

from __future__ import annotations

import time

from giblet_ray.checkpoint.record import Position
from giblet_ray.console import duration
from giblet_ray.evaluation.score import Score
from giblet_ray.training.config import TrainConfig

_SHOW_SECONDS = 10.0
_SHOW_SHARE = 0.05
_MOST_SECONDS = 300.0
"""A user hears of a training after 10 s, then ever more seldom, up to every five minutes: logs of a
day stay readable."""


class Rate:
    """How fast steps go by, for the user."""

    def __init__(self, total_steps: int, done: int) -> None:
        self._total, self._first = total_steps, done
        self._started = self._shown = time.monotonic()

    def is_due(self) -> bool:
        """Whether the user has heard nothing for a while."""
        running = time.monotonic() - self._started
        pause = min(max(_SHOW_SECONDS, _SHOW_SHARE * running), _MOST_SECONDS)
        return time.monotonic() - self._shown > pause

    def left(self, step: int) -> str:
        """Return the time that the remaining steps will take, as text."""
        self._shown = time.monotonic()
        seconds = (self._shown - self._started) / max(1, step - self._first)
        return f"{duration(seconds * (self._total - step))} left"


def epoch_line(position: Position, settings: TrainConfig, left: str) -> str:
    """Return one line on the epoch that is just complete."""
    metrics, score = position.history[-1], Score(settings.score)
    star = "  best" if position.best_epoch(score) == position.epoch else ""
    speed = f"{metrics['train/rows_per_second']:,.0f} rows/s"
    return (
        f"epoch {position.epoch}/{settings.epochs}  loss {metrics['train/loss']:.4f}"
        f"  val {score.short} {metrics[score.name]:+.4f}  {speed}"
        f"  waiting {metrics['train/data_wait_share']:.0%}  {left}{star}"
    )
