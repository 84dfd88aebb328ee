"""Which MLflow run is meant: one by its name or id, or the best trial of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from giblet_ray.checkpoint.record import Record
from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.tracking.recorded_run import BEST_TAG, RecordedRun, find_run_id
from giblet_ray.tracking.store import Store

_READERS = 8
"""Trials' folders that are looked into at a time."""


def find_run(store: Store, wanted: str, setting: str = "--run") -> RecordedRun:
    """Return the training of a name or id, from any experiment; `setting` is for messages.

    Raises
    ------
    InputError
        If there is none, or several of that name.
    """
    runs = store.runs()
    if any(wanted in (run.name, run.id) for run in runs if run.is_sweep):
        raise InputError(f"{setting} {wanted}: is a sweep; --best-of {wanted} takes its best trial")
    trainings = {run.id: run for run in runs if run.is_training}
    return trainings[find_run_id(_names(trainings), wanted, setting, "the trainings")]


def best_trial(store: Store, wanted: str) -> RecordedRun:
    """Return the best trial of a sweep; see :func:`best_trials`."""
    return best_trials(store, wanted, 1)[0]


def best_trials(store: Store, wanted: str, n: int) -> list[RecordedRun]:
    """Return the best trials of a sweep, best first, finished or stopped early.

    Of a sweep that is finished, the one that it chose comes first: it may have done so by the mean
    over seeds. Scores are read from the checkpoints: trials that were stopped may have logged none.

    Parameters
    ----------
    store : Store
        That the sweep was recorded in.
    wanted : str
        The sweep's name, or the id of its parent run.
    n : int
        How many.

    Raises
    ------
    InputError
        If there is no such sweep, or several of that name, or fewer of its trials have a
        checkpoint.
    """
    runs = store.runs()
    sweeps = {run.id: run for run in runs if run.is_sweep}
    sweep = find_run_id(_names(sweeps), wanted, "--best-of", "the sweeps")
    trials = [run for run in runs if run.parent == sweep]
    ended = [run for run in trials if run.status in ("FINISHED", "KILLED")]
    with ThreadPoolExecutor(_READERS) as threads:
        records = list(threads.map(_best_record, ended))
    scored = [(r, run) for r, run in zip(records, ended, strict=True) if r is not None]
    score = scored[0][0].chosen_by if scored else Score()
    ranked = score.ranked(scored, lambda trial: trial[0].score)
    chosen = [run for record, run in ranked if score.best([record], lambda r: r.score)]
    if not chosen:
        raise InputError(
            f"--best-of {wanted}: of its {len(trials)} trials, {len(ended)} were finished or "
            "stopped, and none has a checkpoint that was scored"
        )
    if len(chosen) < n:
        raise InputError(
            f"--best-of {wanted} --top {n}: {len(chosen)} of its {len(trials)} trials have a "
            "checkpoint that was scored"
        )
    crowned = sweeps[sweep].tags.get(BEST_TAG) if sweeps[sweep].status == "FINISHED" else None
    return sorted(chosen, key=lambda run: run.id != crowned)[:n]


def _names(runs: Mapping[str, RecordedRun]) -> dict[str, str]:
    return {id: run.name for id, run in runs.items()}


def _best_record(run: RecordedRun) -> Record | None:
    best = best_checkpoint(Storage.at(run.folder), "") if run.folder else None
    return best.record if best else None
