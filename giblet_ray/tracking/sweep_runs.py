"""A sweep's MLflow runs: a parent, and a child for each trial, all written by one process.

One writer means that trials at the same time never lock one another out of a sqlite store, and
that their processes need not import MLflow. What it is told, it tells MLflow from a thread, in
order; until MLflow has it, it lies in the sweep's folder as well, from where a sweep that was
killed goes on telling it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from giblet_ray.dataset.storage import Storage
from giblet_ray.progress import Show
from giblet_ray.tracking.finish import take_steps
from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.points import Point, keep_unsent, read_unsent
from giblet_ray.tracking.recorded_run import BEST_TAG, CAUSE_TAG, KIND_TAG, PARENT_TAG, TRIAL_TAG
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.system_metrics import SystemMetrics

_KEEP_SHARE = 0.05
"""Of the time of a sweep's driver, which schedules trials, what writing points may take."""
_FLUSH_SECONDS = 10.0
"""Time that MLflow is given, also if a sweep has failed or was interrupted."""

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "running": "KILLED"}
"""How MLflow calls what became of a trial."""


class SweepRuns:
    """The MLflow runs of one sweep.

    Parameters
    ----------
    uri, experiment, name : str
        Tracking store, experiment, and the sweep's name.
    storage : Storage
        Folder of the sweep, which tells it from others of its name: its runs are continued.
    show : Show
    again : str
        What logs later what the store did not take, as the user is told.

    Raises
    ------
    InputError
        If the store cannot be used.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        storage: Storage,
        show: Show,
        again: str,
    ) -> None:
        self.parent = MlflowRun(uri, experiment, name, storage.location, {KIND_TAG: "sweep"})
        self._storage, self._show, self._again = storage, show, again
        self._log = _SweepLog(self.parent, name, storage.location, show)
        for entries in read_unsent(storage, "").values():
            self._log.restore(entries)
        self._keeps_again = 0.0
        self._open: dict[str, int] = {}
        self._system: SystemMetrics | None = None
        self._crown: Callable[[], None] | None = None

    def describe(self, settings: Mapping[str, Any], dataset: str, checksum: str, text: str) -> None:
        """Record the sweep: space, method, seed and budget, and what all trials share."""
        self.parent.describe(settings, dataset, checksum)
        self.parent.text(text, "sweep.yaml")

    def watch(self, every_seconds: float) -> None:
        """Log the use of this node as system metrics of the parent."""
        self._system = SystemMetrics(self._log, self.parent.address, None, every_seconds)
        self._system.start()

    def has(self, folder: str) -> bool:
        """Whether MLflow has the run of a trial of an earlier session, or is being told of it.

        One whose parent was deleted becomes a child of this one.

        Raises
        ------
        InputError
            If the server is away.
        """
        if any(entry["run"] == folder and "do" in entry for entry in self._log.pending()):
            return True
        with tracking_errors(self.parent.uri):
            return self._log.has(folder)

    def begin(
        self,
        number: int,
        folder: str,
        settings: Mapping[str, Any],
        dataset: str,
        checksum: str,
        seconds: float = 0.0,
    ) -> None:
        """Open the child run of a trial, or the one that it has had before.

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
        seconds : float
            How long ago it began.
        """
        self._open[folder] = number
        described = {"settings": dict(settings), "dataset": dataset, "checksum": checksum}
        began = time.time() - seconds
        self._tell({"run": folder, "do": "begin", "at": began, "trial": number, **described})

    def log(self, folder: str, points: Iterable[tuple[int, dict[str, float]]]) -> None:
        """Log points of a trial's curves: metrics by step, in the order of their steps."""
        for step, metrics in points:
            self._log.log(folder, metrics, step)
        if time.monotonic() >= self._keeps_again:
            self._keep()

    def end(
        self, folder: str, state: str, cause: str, best: Mapping[str, float], traceback: str
    ) -> None:
        """Close the child run of a trial with what became of it.

        Parameters
        ----------
        folder : str
            The trial's.
        state : str
            One of ``STATUS``.
        cause, traceback : str
            Why it was stopped or has failed; empty if neither.
        best : mapping of str to float
            Metrics of its best epoch.
        """
        del self._open[folder]
        became = {"state": state, "cause": cause, "best": dict(best), "traceback": traceback}
        self._tell({"run": folder, "do": "end", "at": time.time(), **became})

    def crown(
        self,
        folder: str,
        best: Mapping[str, float],
        judged: Mapping[str, float],
        report: Callable[[MlflowRun], None],
    ) -> None:
        """Choose the best trial, which the parent is to name when the sweep is closed.

        Parameters
        ----------
        folder, best
            As :meth:`end` takes them.
        judged : mapping of str to float
            Its scores on the test TRs, and over seeds.
        report : callable
            Gives the trial's run figures and model.
        """

        def crown() -> None:
            child = self._log.child(folder)
            self.parent.tag(BEST_TAG, child.id)
            self.parent.tag("giblet_ray.best_trial", str(int(folder)))
            self.parent.best(best)
            self.parent.metrics(judged)
            report(child)

        self._crown = crown

    def close(self, status: str, patience_seconds: float) -> None:
        """End all runs, and say what MLflow did not take.

        Parameters
        ----------
        status : str
            What became of the sweep: FINISHED, FAILED or KILLED.
        patience_seconds : float
            How long a server that is away is waited for, if the sweep is finished.
        """
        if self._system is not None:
            self._system.stop()
        for folder in list(self._open):
            self.end(folder, "running", "the sweep was interrupted", {}, "")
        patience = max(_FLUSH_SECONDS, patience_seconds if status == "FINISHED" else 0)
        deadline = time.monotonic() + patience
        unsent = self._log.close(patience)
        steps: dict[str, Callable[[], None]] = {}
        curves = "what its trials have told since"
        if unsent:
            steps[curves] = lambda: self._log.resend(unsent)
        if self._crown is not None:
            steps["the best trial, with figures and model"] = self._crown
        steps[f"status {status}"] = lambda: self.parent.close(status)
        left = max(0.0, deadline - time.monotonic())
        where = self._storage.location
        missed = take_steps(steps, self.parent.uri, left, where, self._again, self._show)
        keep_unsent(self._storage, "", unsent if curves in missed else [])

    def _tell(self, entry: Point) -> None:
        self._log.put(entry)
        self._keep()

    def _keep(self) -> None:
        began = time.monotonic()
        keep_unsent(self._storage, "", self._log.pending())
        ended = time.monotonic()
        self._keeps_again = ended + (ended - began) / _KEEP_SHARE


class _SweepLog(MetricLog):
    """Points of trials, among the beginnings and ends of their runs.

    ``run`` of an entry is a trial's folder, as the id of its run is MLflow's to choose.
    """

    def __init__(self, parent: MlflowRun, name: str, location: str, show: Show) -> None:
        self._children: dict[str, MlflowRun] = {}
        self._parent, self._name, self._location = parent, name, location
        super().__init__(parent.uri, show)

    def put(self, entry: Point) -> None:
        """Queue the beginning or the end of a trial's run."""
        self._put([entry])

    def resend(self, entries: Sequence[Point]) -> None:
        """Tell entries once more, and wait for it."""
        while entries:
            together = self._together(entries)
            self._send(together)
            entries = entries[len(together) :]

    def child(
        self, folder: str, tags: Mapping[str, str] | None = None, began: float | None = None
    ) -> MlflowRun:
        """Return the run of a trial, found or begun."""
        tags = {PARENT_TAG: self._parent.id, **(tags or {})}
        name = f"{self._name}/{folder}"
        run = self._parent.sibling(name, self._folder(folder), tags, began)
        self._children[folder] = run
        return run

    def has(self, folder: str) -> bool:
        """Whether there is the run of a trial; one of a deleted parent becomes this one's."""
        return self._parent.has_sibling(self._folder(folder), {PARENT_TAG: self._parent.id})

    def _folder(self, folder: str) -> str:
        return f"{self._location}/{folder}"

    def _together(self, entries: Sequence[Point]) -> Sequence[Point]:
        if "do" in entries[0]:
            return entries[:1]
        return super()._together(list(takewhile(lambda entry: "do" not in entry, entries)))

    def _send(self, together: Sequence[Point]) -> None:
        first = together[0]
        folder = first["run"]
        if first.get("do") == "begin":
            run = self.child(folder, {TRIAL_TAG: str(first["trial"])}, first["at"])
            if not run.is_new:
                run.reopen()
            run.describe(first["settings"], first["dataset"], first["checksum"])
        elif first.get("do") == "end":
            self._end(self._known(folder), first)
        elif folder == self._parent.id:
            super()._send(together)
        else:
            run_id = self._known(folder).id
            super()._send([{**point, "run": run_id} for point in together])

    def _known(self, folder: str) -> MlflowRun:
        """Return the run of a trial; MLflow is asked for one of an earlier session alone."""
        return self._children.get(folder) or self.child(folder)

    def _end(self, run: MlflowRun, became: Point) -> None:
        run.best(became["best"])
        if became["cause"]:
            run.tag(CAUSE_TAG, became["cause"])
        if became["traceback"]:
            run.text(became["traceback"], "error.txt")
        run.close(STATUS[became["state"]], became["at"])
