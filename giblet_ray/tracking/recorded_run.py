"""A run as MLflow has it, and the tags that it is known by. Imports no MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from giblet_ray.errors import InputError, nearest

RUN_TAG = "giblet_ray.run"
"""Folder of the run, which holds its checkpoints."""
IDENTITY_TAG = "giblet_ray.identity"
"""Checksum of that folder, by which a run is found again."""
DATASET_TAG = "giblet_ray.dataset"
"""Checksum of the data set's manifest."""
KIND_TAG = "giblet_ray.kind"
"""``sweep`` on a parent; trainings have none."""
TRIAL_TAG = "giblet_ray.trial"
CAUSE_TAG = "giblet_ray.cause"
"""Why a trial was stopped or has failed."""
BEST_TAG = "giblet_ray.best"
"""On a parent, the run of its best child."""
PARENT_TAG = "mlflow.parentRunId"
COMMIT_TAG = "mlflow.source.git.commit"
_MANY = 20


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """A training or a sweep, as MLflow has it."""

    id: str
    name: str
    """In MLflow."""
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    started: float
    """When it began (s since 1970)."""
    ended: float | None
    """When it ended, if it has."""
    tags: Mapping[str, str]
    settings: Mapping[str, str]
    """As MLflow keeps them."""
    metrics: Mapping[str, float]
    """The last value of each."""
    dataset: str
    dataset_digest: str
    """Name of the data set, and the first characters of its checksum; empty where unknown."""

    @property
    def folder(self) -> str:
        """Folder or URI with the checkpoints; empty if this package has not made the run."""
        return self.tags.get(RUN_TAG, "")

    @property
    def is_sweep(self) -> bool:
        """Whether it is the parent of trials."""
        return self.tags.get(KIND_TAG) == "sweep"

    @property
    def is_training(self) -> bool:
        """Whether this package has trained it, alone or as a trial."""
        return bool(self.folder) and KIND_TAG not in self.tags

    @property
    def parent(self) -> str:
        """Id of the sweep that it is a trial of; empty if it is none."""
        return self.tags.get(PARENT_TAG, "")

    @property
    def cause(self) -> str:
        """Why it was stopped or has failed; empty where unknown."""
        return self.tags.get(CAUSE_TAG, "")

    @property
    def dataset_checksum(self) -> str:
        """Checksum of the data set's manifest, or as much of it as is known."""
        return self.tags.get(DATASET_TAG) or self.dataset_digest

    @property
    def commit(self) -> str:
        """Git commit of the code; empty where unknown."""
        return self.tags.get(COMMIT_TAG, "")


def find_run_id(names_by_id: Mapping[str, str], wanted: str, setting: str, where: str) -> str:
    """Return the id of the run that is meant by a name, or by an id's first 8 characters or more.

    Parameters
    ----------
    names_by_id : mapping of str to str
        The runs that there are.
    wanted : str
        Name or id.
    setting, where : str
        For messages: the setting that `wanted` was given as, and what the runs are in.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    by_name = [id for id, name in names_by_id.items() if name == wanted]
    by_id = [id for id in names_by_id if len(wanted) >= 8 and id.startswith(wanted)]
    found = by_name or by_id
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(found)
        raise InputError(f"{setting} {wanted}: {len(found)} have this name; give an id: {ids}")
    names = sorted(set(names_by_id.values()))
    has = ", ".join(names[:_MANY]) + (", ..." if len(names) > _MANY else "") or "none"
    raise InputError(f"{setting} {wanted}: not in {where}{nearest(wanted, names)}; it has {has}")
