"""A sweep's MLflow runs: a parent, and a child for each trial, all written by one process.

One writer means that trials at the same time never lock one another out of a sqlite store, and
that their processes need not import MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from giblet_ray.dataset.storage import Storage
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.run import MlflowRun

KIND_TAG = "giblet_ray.kind"
"""``sweep`` on a parent; trainings have none."""
TRIAL_TAG = "giblet_ray.trial"
CAUSE_TAG = "giblet_ray.cause"
"""Why a trial was stopped or has failed."""
BEST_TAG = "giblet_ray.best"
"""On a parent, the run of its best child."""
_PARENT_TAG = "mlflow.parentRunId"
_PATIENCE_SECONDS = 60.0
_FLUSH_SECONDS = 5.0
_UNSENT = "mlflow-unsent.jsonl"

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "running": "KILLED"}
"""How MLflow calls what became of a trial."""


class SweepRuns:
    """The MLflow runs of one sweep.

    Parameters
    ----------
    uri, experiment, name : str
        Tracking store, experiment, and the sweep's name.
    folder : str
        Folder of the sweep, which tells it from others of its name: its runs are continued.

    Raises
    ------
    InputError
        If the store cannot be used.
    """

    def __init__(self, uri: str, experiment: str, name: str, folder: str) -> None:
        self.parent = MlflowRun(uri, experiment, name, folder, {KIND_TAG: "sweep"})
        self._experiment, self._name, self._folder = experiment, name, folder
        self._metrics = MetricLog(self.parent.uri)
        self._trials: dict[int, MlflowRun] = {}

    def describe(self, settings: Mapping[str, Any], dataset: str, checksum: str, text: str) -> None:
        """Record the sweep: space, method, seed and budget, and what all trials share."""
        self.parent.describe(settings, dataset, checksum)
        self.parent.text(text, "sweep.yaml")

    def begin(
        self,
        number: int,
        folder: str,
        settings: Mapping[str, Any],
        dataset: str,
        checksum: str,
    ) -> str:
        """Open the child run of a trial, or the one that it has had before; return its id.

        Parameters
        ----------
        number : int
            The trial.
        folder : str
            Its folder, below the sweep's.
        settings : mapping of str to object
            All its settings, by dotted name.
        dataset, checksum : str
            What it is trained on.
        """
        tags = {_PARENT_TAG: self.parent.id, TRIAL_TAG: str(number)}
        identity, name = f"{self._folder}/{folder}", f"{self._name}/{folder}"
        run = MlflowRun(self.parent.uri, self._experiment, name, identity, tags)
        run.describe(settings, dataset, checksum)
        self._trials[number] = run
        return run.id

    def log(self, number: int, metrics: dict[str, float], step: int) -> None:
        """Queue points of a trial's curves."""
        self._metrics.log(self._trials[number].id, metrics, step)

    def end(
        self, number: int, state: str, cause: str, best: Mapping[str, float], traceback: str
    ) -> None:
        """Close the child run of a trial with what became of it.

        Parameters
        ----------
        number : int
            The trial.
        state : str
            One of ``STATUS``.
        cause, traceback : str
            Why it was stopped or has failed; empty if neither.
        best : mapping of str to float
            Metrics of its best epoch.
        """
        self._metrics.flush(_FLUSH_SECONDS)
        run = self._trials[number]
        run.best(best)
        if cause:
            run.tag(CAUSE_TAG, cause)
        if traceback:
            run.text(traceback, "error.txt")
        run.close(STATUS[state])
        del self._trials[number]

    def crown(self, run_id: str, number: int, best: Mapping[str, float]) -> None:
        """Name the best trial on the parent, with the metrics of its best epoch."""
        self.parent.tag(BEST_TAG, run_id)
        self.parent.tag("giblet_ray.best_trial", str(number))
        self.parent.best(best)

    def close(self, status: str, storage: Storage) -> str | None:
        """Write what is queued, end all runs, and say what MLflow did not take."""
        unsent = self._metrics.close(_PATIENCE_SECONDS)
        for number in list(self._trials):
            self.end(number, "running", "the sweep was interrupted", {}, "")
        self.parent.close(status)
        if not unsent:
            return None
        with storage.write(_UNSENT) as stream:
            stream.writelines(json.dumps(point).encode() + b"\n" for point in unsent)
        return f"MLflow did not take {len(unsent)} points: kept in {storage.describe(_UNSENT)}"
