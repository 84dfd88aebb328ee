"""The end of a run: its server is waited for, for a while, and what it has missed is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.progress import Show
from giblet_ray.tracking.metric_log import PointWriter
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.points import read_unsent
from giblet_ray.tracking.server import MLFLOW_ERRORS, brief, persistently, refuses

REPORTED_TAG = "giblet_ray.reported"
"""On a run that has all that :attr:`RunEnd.report` gives it."""


class RunEnd:
    """Ends the MLflow run of a training, also one that had ended while the server was away.

    In this order: points that workers could not log, and left in the run's folder; figures, best
    scores and model; the status. A server that is away is waited for if the training is finished,
    for one that has failed or was interrupted there is one try. What is missing then is said in
    one line: MLflow's trouble makes no training fail.

    Parameters
    ----------
    run : MlflowRun
        The training's run.
    storage : Storage
        Where runs are kept.
    name : str
        The run's folder.
    patience_seconds : float
        How long a server that is away is waited for.
    show : Show

    Attributes
    ----------
    report : callable or None
        Gives the run its figures, best scores and model, if there is something to report. Not
        called for a run that has them.
    """

    def __init__(
        self,
        run: MlflowRun,
        storage: Storage,
        name: str,
        patience_seconds: float,
        show: Show,
    ) -> None:
        self.report: Callable[[], None] | None = None
        self._run, self._storage, self._name = run, storage, name
        self._patience_seconds, self._show = patience_seconds, show

    def __call__(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        if status == "KILLED":
            self._show("stopping: the same command goes on from the latest checkpoint")
        unsent = read_unsent(self._storage, self._name)
        # Of this run, also if its id was another's, which has been deleted since.
        points = [{**p, "run": self._run.id} for p in chain.from_iterable(unsent.values())]
        curves = f"{len(points):,} points of its curves"
        steps: dict[str, Callable[[], None]] = {}
        if unsent:
            steps[curves] = partial(PointWriter(self._run.uri).write, points)
        if self.report is not None:
            steps["figures, best scores and model"] = self._report
        steps[f"status {status}"] = lambda: self._run.close(status)
        patience = self._patience_seconds if status == "FINISHED" else 0
        where = self._storage.describe(self._name)
        missed = take_steps(steps, self._run.uri, patience, where, "the same command", self._show)
        if curves not in missed:
            for name in unsent:
                self._storage.delete(name)

    def _report(self) -> None:
        if self.report is None or self._run.has_tag(REPORTED_TAG):
            return
        self._show("recording the run in MLflow")
        self.report()
        self._run.tag(REPORTED_TAG, "true")


def take_steps(
    steps: Mapping[str, Callable[[], None]],
    uri: str,
    patience_seconds: float,
    where: str,
    command: str,
    show: Show,
) -> set[str]:
    """Take one step after another on a store, and say which of them it did not take.

    Parameters
    ----------
    steps : mapping of str to callable
        By what they log, in words; each can be taken again.
    uri : str
        Tracking store.
    patience_seconds : float
        How long a server that is away is waited for, in all.
    where : str
        Folder of what is to be logged.
    command : str
        What logs it later.
    show : callable
        Is given the line.

    Returns
    -------
    set of str
        The steps that were not taken: what the store refused, and all after it was found away.
    """
    deadline = time.monotonic() + patience_seconds
    missed: dict[str, str] = {}
    away = ""
    for name, step in steps.items():
        if away:
            missed[name] = away
            continue
        try:
            persistently(step, uri, deadline)
        except InputError:
            raise
        except MLFLOW_ERRORS as error:
            missed[name] = brief(error)
            away = "" if refuses(error) else brief(error)
    if missed:
        reasons = "; ".join(dict.fromkeys(missed.values()))
        show(
            f"MLflow at {uri} did not take it ({reasons}); not logged: {', '.join(missed)}; all of "
            f"it lies in {where}, and {command} logs it when the server is back"
        )
    return set(missed)
