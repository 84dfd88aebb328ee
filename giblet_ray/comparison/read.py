"""What MLflow knows about an experiment's trainings, read without changing anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from giblet_ray.comparison.runs import ComparedRun, parse_setting
from giblet_ray.errors import InputError, nearest
from giblet_ray.tracking.recorded_run import RecordedRun, find_run_id
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.store import Store, open_store

_BEST = "best/"
_BY_STEP = ("train/lr", "train/gradient_norm")
"""Metrics whose step is not the epoch."""


def read_runs(
    uri: str,
    experiment: str,
    names: Sequence[str] = (),
    sweep: str | None = None,
    report: Callable[[str, float], None] = lambda stage, done: None,
) -> list[ComparedRun]:
    """Return the trainings of an experiment, sweeps' trials among them, in order of their start.

    Parameters
    ----------
    uri : str
        Tracking store.
    experiment : str
        Name of the experiment.
    names : sequence of str
        Names or ids (the first 8 characters or more) of the runs that are wanted; by default all.
    sweep : str, optional
        Only the trials of this sweep, by its name or id.
    report : callable, optional
        Is told the stage and the share of it that is done.

    Raises
    ------
    InputError
        If the store cannot be read, or an experiment, sweep or run is not in it, or is not one
        alone.
    """
    store = open_store(uri)
    with tracking_errors(uri):
        found = _trainings(store, experiment, names, sweep)
        runs = []
        for index, (run, parent) in enumerate(found):
            runs.append(_compared(store, run, parent))
            report("reading MLflow", (index + 1) / len(found))
        return runs


def _trainings(
    store: Store, experiment: str, names: Sequence[str], sweep: str | None
) -> list[tuple[RecordedRun, RecordedRun | None]]:
    """Return the chosen trainings, each with the sweep that it is a trial of."""
    experiments = store.experiments()
    if experiment not in experiments:
        raise InputError(
            f"--experiment {experiment}: no such experiment in {store.uri}"
            f"{nearest(experiment, list(experiments))}; it has {', '.join(sorted(experiments))}"
        )
    found = store.runs(experiments[experiment])
    sweeps = {run.id: run for run in found if run.is_sweep}
    trainings = [run for run in found if run.is_training]
    where = f"experiment {experiment}"
    if sweep is not None:
        names_by_id = {run.id: run.name for run in sweeps.values()}
        parent = find_run_id(names_by_id, sweep, "--sweep", where)
        trainings = [run for run in trainings if run.parent == parent]
    if not trainings:
        asked = f"--sweep {sweep}" if sweep is not None else f"--experiment {experiment}"
        raise InputError(
            f"{asked}: no training in it yet; jobs/train.py and jobs/tune.py make some"
        )
    if names:
        names_by_id = {run.id: run.name for run in trainings}
        wanted = {find_run_id(names_by_id, name, "--runs", where) for name in names}
        trainings = [run for run in trainings if run.id in wanted]
    trainings.sort(key=lambda run: run.started)
    return [(run, sweeps.get(run.parent)) for run in trainings]


def _compared(store: Store, run: RecordedRun, parent: RecordedRun | None) -> ComparedRun:
    ended = run.ended if run.ended is not None else time.time()
    return ComparedRun(
        id=run.id,
        name=run.name,
        sweep=parent.name if parent else None,
        status="STOPPED" if run.status == "KILLED" and run.cause else run.status,
        cause=run.cause,
        folder=run.folder,
        dataset=run.dataset_checksum,
        dataset_name=run.dataset or _name(run.settings.get("dataset", "")),
        commit=run.commit,
        seconds=ended - run.started,
        settings={key: parse_setting(value) for key, value in run.settings.items()},
        curves={key: _by_epoch(store, run, key) for key in run.metrics if _is_of_epochs(key)},
        logged_best={
            key.removeprefix(_BEST): value
            for key, value in run.metrics.items()
            if key.startswith(_BEST)
        },
    )


def _is_of_epochs(key: str) -> bool:
    return key.startswith(("train/", "val/")) and key not in _BY_STEP


def _by_epoch(store: Store, run: RecordedRun, key: str) -> dict[int, float]:
    """Return a metric's values by epoch; of several, the last one logged."""
    return {point.step: point.value for point in store.curve(run.id, key)}


def _name(location: str) -> str:
    return location.rstrip("/").rpartition("/")[2] or "unknown"
