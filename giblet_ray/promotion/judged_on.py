"""What a run's score is of: scores of the same TRs and units can be held against each other, and
losses only if they are the same loss."""

from __future__ import annotations

from giblet_ray.checkpoint.record import Record
from giblet_ray.config import TrainJob
from giblet_ray.settings import Mark, marked_settings


def difference(one: Record, other: Record) -> str | None:
    """Say what tells the validation TRs and units of two runs apart; None if nothing does."""
    theirs = _judged_on(other)
    for name, value in _judged_on(one).items():
        if value != theirs.get(name):
            return f"{name} is {value}, there {theirs.get(name)}"
    return None


def _judged_on(record: Record) -> dict[str, str]:
    """Return what decides which numbers a score was computed from, by setting."""
    judged = sorted(marked_settings(TrainJob, Mark.JUDGED))
    judged += sorted(filter(record.chosen_by.is_decided_by, record.settings))
    return {
        "train.score": record.chosen_by.name,
        "the data set's checksum": record.dataset.checksum[:12],
        **{name: str(record.settings[name]) for name in judged},
    }
