"""By what runs are chosen: the best epoch of a run, its checkpoint, a sweep's trial, a champion.

This is the only place that chooses. A score that is missing or not finite is never best; of equal
ones the first is, which is the earliest epoch where epochs are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

VAL_PEARSON = "val/pearson_mean"
"""Pearson r over validation TRs, mean over units: what runs are chosen by unless told otherwise."""

MEASURED = (
    VAL_PEARSON,
    *("val/pearson_median", "val/pearson_p95", "val/r2_mean", "val/mse", "val/loss"),
)
"""Metrics that every run has."""

_LOWER_IS_BETTER = ("loss", "mse", "error", "seconds", "wait_share")
_IN_WORDS = {VAL_PEARSON: ("validation Pearson r (selected on)", "r")}

T = TypeVar("T")


@dataclass(frozen=True)
class Score:
    """A metric that things are chosen by."""

    name: str = VAL_PEARSON
    """Key of the metric, ``val/...``. Its direction follows from its name, so that all who meet it
    agree without knowing how it is computed: what ends in loss, mse, error, seconds or wait_share
    is better when lower, everything else when higher."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        return not self.name.endswith(_LOWER_IS_BETTER)

    def is_decided_by(self, setting: str) -> bool:
        """Whether a setting decides what it means, as those of the loss do for the loss itself."""
        return self.name.endswith("/loss") and setting.startswith("loss.")

    @property
    def label(self) -> str:
        """What it is, in words."""
        return _IN_WORDS.get(self.name, (self.name, ""))[0]

    @property
    def short(self) -> str:
        """What it is, where there is little room: ``r``."""
        return _IN_WORDS.get(self.name, ("", self.name.rpartition("/")[2]))[1]

    def is_better(self, one: float | None, other: float | None) -> bool:
        """Whether one value is better than another, and not only as good."""
        return self._order(one) < self._order(other)

    def ranked(self, things: Iterable[T], value: Callable[[T], float | None]) -> list[T]:
        """Return things from best to worst, equal ones as they were, those without a value last.

        Parameters
        ----------
        things : iterable
            What is chosen from.
        value : callable
            Gives the score of one, None where it has none.
        """
        return sorted(things, key=lambda thing: self._order(value(thing)))

    def best(self, things: Iterable[T], value: Callable[[T], float | None]) -> T | None:
        """Return the first of the best things, or None if no score of them is a finite number."""
        first = next(iter(self.ranked(things, value)), None)
        return None if first is None or math.isinf(self._order(value(first))) else first

    def best_epoch(self, history: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
        """Return the metrics of the best epoch of a run, or None if none was scored.

        Parameters
        ----------
        history : sequence of mapping
            Metrics of every epoch, in order.
        """
        return self.best(history, lambda metrics: metrics.get(self.name))

    def _order(self, value: float | None) -> float:
        """Return a number that is lower for what is better, infinite for what is no score."""
        if value is None or not math.isfinite(value):
            return math.inf
        return -value if self.higher_is_better else value


def metric_name(path: str) -> str:
    """Return what a user's own metric is recorded as: ``val/spearman``."""
    return f"val/{path.rpartition(':')[2]}"
