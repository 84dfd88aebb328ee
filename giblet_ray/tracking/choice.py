"""Which MLflow run is meant: one by its name or id, or the best trial of a sweep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.comparison.runs import find_run_id
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.tracking.run import RUN_TAG
from giblet_ray.tracking.store import all_runs, run_names
from giblet_ray.tracking.sweep import KIND_TAG

_READERS = 8
"""Trials' folders that are looked into at a time."""


def find_run(client: MlflowClient, wanted: str) -> Run:
    """Return the training of a name or id, from any experiment.

    Raises
    ------
    InputError
        If there is none, or several of that name.
    """
    runs = [run for run in all_runs(client) if RUN_TAG in run.data.tags]
    sweeps = [run for run in runs if KIND_TAG in run.data.tags]
    if any(wanted in (run.info.run_name, run.info.run_id) for run in sweeps):
        raise InputError(f"--run {wanted}: is a sweep; --best-of {wanted} takes its best trial")
    trainings = [run for run in runs if KIND_TAG not in run.data.tags]
    chosen = find_run_id(run_names(trainings), wanted, "--run", "the trainings")
    return next(run for run in trainings if run.info.run_id == chosen)


def best_trial(client: MlflowClient, wanted: str) -> Run:
    """Return the trial of a sweep with the highest held-out r, finished or stopped early.

    Scores are read from the checkpoints: trials that were stopped may have logged none.

    Parameters
    ----------
    client : MlflowClient
        Of the store that the sweep was recorded in.
    wanted : str
        The sweep's name, or the id of its parent run.

    Raises
    ------
    InputError
        If there is no such sweep, or several of that name, or no trial of it has a checkpoint.
    """
    runs = list(all_runs(client))
    sweeps = [run for run in runs if run.data.tags.get(KIND_TAG) == "sweep"]
    sweep = find_run_id(run_names(sweeps), wanted, "--best-of", "the sweeps")
    trials = [run for run in runs if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == sweep]
    ended = [run for run in trials if run.info.status in ("FINISHED", "KILLED")]
    with ThreadPoolExecutor(_READERS) as threads:
        scores = list(threads.map(_score, ended))
    scored = [(score, run) for score, run in zip(scores, ended, strict=True) if score is not None]
    if not scored:
        raise InputError(
            f"--best-of {wanted}: of its {len(trials)} trials, {len(ended)} were finished or "
            "stopped, and none has a checkpoint that was scored"
        )
    return max(scored, key=lambda trial: trial[0])[1]


def _score(run: Run) -> float | None:
    folder = run.data.tags.get(RUN_TAG)
    best = best_checkpoint(Storage.at(folder), "") if folder else None
    return best[1]["score"] if best else None
