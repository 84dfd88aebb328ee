"""What a run's folder holds of its test: the scores of the checkpoint that was chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from giblet_ray.checkpoint.json_file import read_json, write_json
from giblet_ray.checkpoint.store import is_run
from giblet_ray.dataset.storage import Storage
from giblet_ray.settings import Group

JUDGED = "test.json"
READINGS = "readings.json"


class Readings(Group):
    """What a run's folder counts, from before it is judged on."""

    readings: int = Field(ge=1)
    """How often the test TRs have been predicted by checkpoints of this run."""


class Judged(Group):
    """Scores of one checkpoint on the test TRs."""

    checkpoint: str
    """Name of the checkpoint's folder."""
    weights: str
    """Checksum of its weights: no others have these scores."""
    name: Literal["test", "test_seen_film", "test_folds"]
    """test; test_seen_film where another repeat of the same film has trained; test_folds of all
    folds together."""
    n_trs: int = Field(ge=1)
    """Test TRs of all scans together."""
    n_units: int = Field(ge=1)
    """Units that are scored, of the subject with most."""
    metrics: dict[str, float]
    """Mean over each subject's scans, then subjects: pearson_mean, pearson_median, r2_mean, ..."""
    subjects: dict[str, dict[str, float]]
    """The same of each subject."""
    readings: int = Field(1, ge=1)
    """See :class:`Readings`."""

    def logged(self) -> dict[str, float]:
        """Return the scores by the names that MLflow has them by."""
        named = {f"{self.name}/{metric}": value for metric, value in self.metrics.items()}
        if len(self.subjects) > 1:
            for subject, scores in self.subjects.items():
                named[f"{self.name}/{subject}/pearson_mean"] = scores["pearson_mean"]
        return named | {f"{self.name}/readings": float(self.readings)}

    def in_words(self) -> str:
        """Return the scores in a line."""
        of = f"{len(self.subjects)} subject{'s' if len(self.subjects) > 1 else ''}"
        seen = ", of films that have trained" if self.name == "test_seen_film" else ""
        return (
            f"r mean {self.metrics['pearson_mean']:.4f}, median "
            f"{self.metrics['pearson_median']:.4f} over {self.n_units:,} units; {self.n_trs:,} TRs "
            f"of {of} that nothing was chosen on{seen}"
        )


def read_judged(storage: Storage, run: str) -> Judged | None:
    """Return what a run's folder holds of its test, or None before it.

    Raises
    ------
    InputError
        If it is damaged.
    """
    return read_json(storage, _in(run, JUDGED), Judged)


def keep_judged(storage: Storage, run: str, judged: Judged) -> None:
    """Keep the scores of a run's test in its folder."""
    write_json(storage, _in(run, JUDGED), judged)


def count_reading(storage: Storage, run: str = "") -> int:
    """Count one more reading of a run's test TRs, judged before or not; return how many.

    A folder that is no run's, as that of a registered model's files, keeps no count.
    """
    judged, counted = read_judged(storage, run), read_json(storage, _in(run, READINGS), Readings)
    known = [each.readings for each in (judged, counted) if each is not None]
    if not known and not is_run(storage, run):
        return 1
    readings = max(known, default=0) + 1
    write_json(storage, _in(run, READINGS), Readings(readings=readings))
    if judged is not None:
        write_json(storage, _in(run, JUDGED), judged.model_copy(update={"readings": readings}))
    return readings


def _in(run: str, name: str) -> str:
    return f"{run}/{name}" if run else name
