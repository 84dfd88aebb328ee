"""What MLflow knows about an experiment's trainings, read without changing anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from giblet_ray.comparison.runs import ComparedRun, find_run_id, parse_setting
from giblet_ray.errors import InputError, nearest
from giblet_ray.tracking.run import DATASET_TAG, RUN_TAG
from giblet_ray.tracking.server import MLFLOW_ERRORS, brief
from giblet_ray.tracking.store import all_runs, open_store, run_names
from giblet_ray.tracking.sweep import CAUSE_TAG, KIND_TAG

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
    client = open_store(uri)
    try:
        found = _trainings(client, uri, experiment, names, sweep)
        runs = []
        for index, (run, parent) in enumerate(found):
            runs.append(_compared(client, run, parent))
            report("reading MLflow", (index + 1) / len(found))
        return runs
    except MLFLOW_ERRORS as error:
        raise InputError(f"--tracking.uri {uri}: cannot be read: {brief(error)}") from error


def _trainings(
    client: MlflowClient, uri: str, experiment: str, names: Sequence[str], sweep: str | None
) -> list[tuple[Run, Run | None]]:
    """Return the chosen trainings, each with the sweep that it is a trial of."""
    experiments = {found.name: found for found in client.search_experiments()}
    if experiment not in experiments:
        raise InputError(
            f"--experiment {experiment}: no such experiment in {uri}"
            f"{nearest(experiment, list(experiments))}; it has {', '.join(sorted(experiments))}"
        )
    found = list(all_runs(client, [experiments[experiment].experiment_id]))
    sweeps = {run.info.run_id: run for run in found if run.data.tags.get(KIND_TAG) == "sweep"}
    trainings = [run for run in found if RUN_TAG in run.data.tags and run.info.run_id not in sweeps]
    if sweep is not None:
        parent = find_run_id(
            run_names(sweeps.values()), sweep, "--sweep", f"experiment {experiment}"
        )
        trainings = [run for run in trainings if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent]
    if not trainings:
        where = f"--sweep {sweep}" if sweep is not None else f"--experiment {experiment}"
        raise InputError(
            f"{where}: no training in it yet; jobs/train.py and jobs/tune.py make some"
        )
    if names:
        has, where = run_names(trainings), f"experiment {experiment}"
        wanted = {find_run_id(has, name, "--runs", where) for name in names}
        trainings = [run for run in trainings if run.info.run_id in wanted]
    trainings.sort(key=lambda run: run.info.start_time)
    return [(run, sweeps.get(run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""))) for run in trainings]


def _compared(client: MlflowClient, run: Run, parent: Run | None) -> ComparedRun:
    tags, info = run.data.tags, run.info
    curves = {
        key: _by_epoch(client, info.run_id, key) for key in run.data.metrics if _is_of_epochs(key)
    }
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = inputs[0].dataset if inputs else None
    ended = info.end_time if info.end_time else time.time() * 1000
    return ComparedRun(
        id=info.run_id,
        name=info.run_name,
        sweep=parent.info.run_name if parent else None,
        status=info.status,
        cause=tags.get(CAUSE_TAG, ""),
        folder=tags[RUN_TAG],
        dataset=tags.get(DATASET_TAG) or (dataset.digest if dataset else ""),
        dataset_name=dataset.name if dataset else _name(run.data.params.get("dataset", "")),
        commit=tags.get(MLFLOW_GIT_COMMIT, ""),
        seconds=(ended - info.start_time) / 1000,
        settings={key: parse_setting(value) for key, value in run.data.params.items()},
        curves=curves,
        logged_best={
            key.removeprefix(_BEST): value
            for key, value in run.data.metrics.items()
            if key.startswith(_BEST)
        },
    )


def _is_of_epochs(key: str) -> bool:
    return key.startswith(("train/", "val/")) and key not in _BY_STEP


def _by_epoch(client: MlflowClient, run_id: str, key: str) -> dict[int, float]:
    """Return a metric's values by epoch; of several, the last one logged."""
    points: list[Any] = client.get_metric_history(run_id, key)
    return {m.step: m.value for m in sorted(points, key=lambda m: (m.step, m.timestamp))}


def _name(location: str) -> str:
    return location.rstrip("/").rpartition("/")[2] or "unknown"
