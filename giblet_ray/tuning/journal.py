"""The records of a sweep, from which it goes on after being killed; JSON, nothing pickled.

Below the sweep's folder::

    sweep.json         settings of the sweep and of all its trainings, the data set's
                       checksum, the units that are predicted, intervals that show
                       the same
    0000/trial.json    one trial: settings, state, scores and steps by epoch
    0000/epoch-...     its checkpoints, the best and the latest
    best.yaml          the best settings, for jobs/train.py --config
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from giblet_ray.checkpoint.store import SWEEP, is_sweep
from giblet_ray.dataset.splits import SameFilm
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.training.config import SEED
from giblet_ray.tuning.space import Settings

_TRIAL = "trial.json"
_VERSION = 4
_SAME = TypeAdapter(tuple[SameFilm, ...])

State = Literal["running", "finished", "stopped", "failed"]


@dataclass
class TrialRecord:
    """What is known of a trial."""

    number: int
    """From 0, in the order of their start."""
    settings: Settings
    """Value of each searched setting."""
    epochs: int
    """Epochs that it trains if it is not stopped."""
    state: State = "running"
    """Running, also when it was under way as its sweep was killed; finished as planned; stopped by
    scheduler or budget; failed."""
    cause: str = ""
    """Why it was stopped or has failed; of one that is running, why it is about to be stopped."""
    scores: dict[int, float] = field(default_factory=dict)
    """Of each epoch, from 1."""
    steps: dict[int, int] = field(default_factory=dict)
    """Optimiser steps that were done by the end of each."""
    seconds: float = 0.0
    """Time that it ran."""
    seed: int | None = None
    """Of the training, if it is one of settings that the search has found already, with another
    seed than the search's."""

    @property
    def replaced(self) -> Settings:
        """Settings that it has in the place of the sweep's: those that are searched, and its
        seed."""
        return self.settings if self.seed is None else {**self.settings, SEED: self.seed}

    def best(self, score: Score) -> float | None:
        """Return its best score, or None if no epoch was scored."""
        return score.best(self.scores.values(), lambda value: value)

    @property
    def epoch(self) -> int:
        """Last epoch that was scored; 0 before the first."""
        return max(self.scores, default=0)

    @property
    def folder(self) -> str:
        """Folder of its checkpoints, below the sweep's."""
        return trial_folder(self.number)


def trial_folder(number: int) -> str:
    """Return the name of a trial's folder: ``0007``."""
    return f"{number:04d}"


class Journal:
    """Reads and writes the records of one sweep.

    Parameters
    ----------
    storage : Storage
        Folder of the sweep.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def begin(
        self,
        config: dict[str, Any],
        checksum: str,
        units: list[dict[str, Any]],
        same: tuple[SameFilm, ...],
    ) -> None:
        """Record what the sweep is: settings, data set, units, if not all are predicted, and
        intervals that show the same."""
        content = {
            "version": _VERSION,
            "config": config,
            "dataset_checksum": checksum,
            "units": units,
            "same": _SAME.dump_python(same, mode="json"),
        }
        self._write(SWEEP, content)

    def load(self) -> dict[str, Any]:
        """Return what :meth:`begin` recorded.

        Raises
        ------
        InputError
            If there is no such sweep, or its record is not readable.
        """
        where = self._storage.describe(SWEEP)
        try:
            content = json.loads(self._storage.read(SWEEP))
        except FileNotFoundError as error:
            raise InputError(
                f"{where}: no such sweep; --storage.path says where to look"
            ) from error
        except ValueError as error:
            raise InputError(f"{where}: not the record of a sweep: {error}") from error
        if content.get("version") != _VERSION:
            raise InputError(
                f"{where}: version {content.get('version')} is unknown; {_VERSION} is accepted"
            )
        return content

    def same(self) -> tuple[SameFilm, ...] | None:
        """Return the intervals that :meth:`begin` recorded; None of a sweep that is not there."""
        return _SAME.validate_python(self.load()["same"]) if self.exists() else None

    def exists(self) -> bool:
        """Whether a sweep was begun here."""
        return is_sweep(self._storage, "")

    def save(self, trial: TrialRecord) -> None:
        """Record a trial as it is now."""
        self._write(f"{trial.folder}/{_TRIAL}", asdict(trial))

    def trials(self) -> list[TrialRecord]:
        """Return all trials, by number."""
        records = []
        for name in self._storage.names():
            if posixpath.basename(name) == _TRIAL:
                content = json.loads(self._storage.read(name))
                for by_epoch in ("scores", "steps"):
                    content[by_epoch] = {int(n): each for n, each in content[by_epoch].items()}
                records.append(TrialRecord(**content))
        return sorted(records, key=lambda record: record.number)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with self._storage.write(name) as stream:
            stream.write(json.dumps(content, indent=1).encode())
