"""The record of a checkpoint: what was trained on what, and how far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score

RECORD = "record.json"
CHECKSUMS = "checksums"
"""Key of the record: xxh3_128 of the other files, by name."""
_KEYS = {"config", "dataset", "position", "score"}


@dataclass
class Position:
    """How far a training has come; with the seed, all that its random numbers depend on.

    The order of the data is a function of (seed, epoch), dropout one of (seed, step, rank): there
    is no hidden random state to lose.
    """

    epoch: int = 0
    """Epochs that are complete."""
    step_in_epoch: int = 0
    """Steps done in the epoch under way."""
    step: int = 0
    """Optimiser steps done in all."""
    loss_sums: dict[str, float] = field(default_factory=dict)
    """Losses of the epoch under way, each times its windows, and the windows (``windows``)."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Metrics of every complete epoch."""

    @property
    def name(self) -> str:
        """Folder of the checkpoint that is saved here."""
        return f"epoch-{self.epoch:04d}-step-{self.step:07d}"

    def best_epoch(self, score: Score) -> int:
        """Return the best of the complete epochs (from 1); 0 if none was scored."""
        best = score.best_epoch(self.history)
        return 0 if best is None else int(best["epoch"])


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a checkpoint's folder: ``config``, ``dataset``, ``position``, ``score``.

    Raises
    ------
    InputError
        If it has none, or a damaged one.
    """
    return record_at(Storage.at(str(folder)), RECORD)


def record_at(storage: Storage, name: str) -> dict[str, Any]:
    where = storage.describe(name)
    try:
        record = json.loads(storage.read(name))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: damaged, or no checkpoint's record: {error}") from error
    if not isinstance(record, dict) or not record.keys() >= _KEYS:
        raise InputError(f"{where}: damaged, or no checkpoint's record: settings are missing")
    return record


def record_score(record: Mapping[str, Any]) -> Score:
    """Return what the checkpoints of a run are chosen by."""
    return Score(record["config"]["train"]["score"])
