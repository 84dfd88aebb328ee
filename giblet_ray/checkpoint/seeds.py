"""What a run's folder holds of the trainings that differ from it in their seed alone."""

from __future__ import annotations

import posixpath
import statistics

from pydantic import Field

from giblet_ray.checkpoint.json_file import read_json, write_json
from giblet_ray.dataset.storage import Storage
from giblet_ray.settings import Group

SEEDS = "seeds.json"


class Seeds(Group):
    """Scores of trainings whose settings differ in train.seed alone."""

    score: str
    """Validation metric that they were chosen by."""
    scores: tuple[float, ...] = Field(min_length=2)
    """That of each training's best epoch, the best first."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (of n - 1)."""
        return statistics.stdev(self.scores)

    def logged(self) -> dict[str, float]:
        """Return mean and spread by the names that MLflow has them by."""
        name = f"seeds/{self.score}"
        return {name: self.mean, f"{name}_sd": self.spread, "seeds/n": float(len(self.scores))}

    def in_words(self) -> str:
        """Return mean and spread in a line."""
        return f"mean {self.mean:.4f}, SD {self.spread:.4f} over {len(self.scores)} seeds"


def read_seeds(storage: Storage, run: str) -> Seeds | None:
    """Return what a run's folder holds of other seeds, or None where it was trained with one.

    Raises
    ------
    InputError
        If it is damaged.
    """
    return read_json(storage, posixpath.join(run, SEEDS), Seeds)


def keep_seeds(storage: Storage, run: str, seeds: Seeds) -> None:
    """Keep what a run's settings reach with several seeds in its folder."""
    write_json(storage, posixpath.join(run, SEEDS), seeds)
