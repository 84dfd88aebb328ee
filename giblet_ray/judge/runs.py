"""The runs that a job evaluates, one after another: judged, written and recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from giblet_ray.checkpoint.judged import count_reading
from giblet_ray.checkpoint.store import find_checkpoint, is_best, is_sweep, latest_record
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.choice import best_trial, find_run
from giblet_ray.judge.run_name import folder_of, name_of
from giblet_ray.progress import Show
from giblet_ray.tracking.sqlite import check_store

if TYPE_CHECKING:
    from giblet_ray.tracking.registry import Registered

_REGISTRY = "models:"


def evaluate_all(job: EvaluateJob, show: Show) -> Iterator[tuple[str, dict[str, str]]]:
    """Evaluate each run that a job names; yield what is said of it, by what it was asked for as.

    Raises
    ------
    InputError
        If there is no such run, or it cannot be judged.
    """
    with found_runs(job) as found:
        # Here, so that a run that is not there is told without the seconds that torch takes.
        from giblet_ray.judge.evaluate import evaluate_run
        from giblet_ray.judge.refits import fit_ridge, retrain
        from giblet_ray.judge.write import write_evaluation, write_report

        ridge = partial(fit_ridge, job=job, show=show) if job.ridge else None
        anew = partial(retrain, job=job, show=show)
        for wanted, locations in found.items():
            show(f"evaluating {wanted}")
            evaluation = evaluate_run(locations, job, show, ridge, anew)
            checkpoints = [fold.checkpoint for fold in evaluation.folds]
            run_folders = [checkpoint.run_folder for checkpoint in checkpoints]
            readings = [count_reading(Storage.at(of_run)) for of_run in run_folders]
            evaluation = evaluation.read_again(max(readings))
            folder = folder_of(job.out, evaluation.name)
            told = {
                "checkpoint": ", ".join(checkpoint.label for checkpoint in checkpoints),
                **evaluation.summary(),
                **write_evaluation(evaluation, folder),
                **write_report(evaluation, job, run_folders, folder),
            }
            yield wanted, told
            if evaluation.partition is not None:
                yield f"parts of {wanted}", evaluation.partition.table()


@contextmanager
def found_runs(job: EvaluateJob) -> Iterator[dict[str, tuple[str, ...]]]:
    """Give the folder of each run that is asked for, by what it was asked for as; of a training in
    folds, the folder of each.

    A folder or URI, a run's name below ``storage.path``, a registered model, or a run or sweep of
    MLflow by name or id; of a sweep, its best trial.

    Raises
    ------
    InputError
        If there is no such run, or a fold of it is missing, or two have one name.
    """
    with ExitStack() as stack:
        found = {wanted: _found(wanted, job, stack) for wanted in job.run}
        if len(found) > 1:
            _check_names(found, job.out)
        yield found


def _check_names(found: Mapping[str, Sequence[str]], out: str | None) -> None:
    """Refuse runs of one name: each is written to a folder that is called by its name."""
    named: dict[str, str] = {}
    for wanted, locations in found.items():
        name = name_of(find_checkpoint(locations[0]).record, len(locations))
        if name in named:
            raise InputError(
                f"--run {named[name]} {wanted}: both are called {name}, and would be written to "
                f"{folder_of(out, name)}; evaluate each by a command with an --out of its own"
            )
        named[name] = wanted


def _found(wanted: str, job: EvaluateJob, stack: ExitStack) -> tuple[str, ...]:
    if wanted.startswith(_REGISTRY):
        from giblet_ray.tracking.registry import fetch_registered

        folder, registered = stack.enter_context(fetch_registered(wanted, job.tracking.uri))
        return (_own_folder(registered, str(folder), job.tracking.uri),)
    for location in (Storage.at(job.storage.path).describe(wanted), wanted):
        try:
            find_checkpoint(location)
        except StorageError:
            raise
        except InputError:
            continue
        return (location,)
    storage = Storage.at(job.storage.path)
    if folds := _folds(wanted, storage):
        return folds
    if wanted in storage.entries() and not is_sweep(storage, wanted):
        raise InputError(
            f"--run {wanted}: {storage.describe(wanted)} has no checkpoint; a run has one after "
            "its first epoch"
        )
    check_store(job.tracking.uri)
    from giblet_ray.tracking.store import open_store

    store = open_store(job.tracking.uri)
    sweeps = {name for run in store.runs() if run.is_sweep for name in (run.name, run.id)}
    return ((best_trial if wanted in sweeps else find_run)(store, wanted).folder,)


def _own_folder(registered: Registered, folder: str, uri: str) -> str:
    """Return the folder of the run that trained a registered model, which counts its readings, or,
    where that is gone or has gone on, the folder of the model's own files."""
    from giblet_ray.tracking.store import open_store

    weights = find_checkpoint(folder).record.weights_checksum
    for run in open_store(uri).runs():
        if run.id == registered.run_id and run.folder and is_best(run.folder, weights):
            return run.folder
    return folder


def _folds(wanted: str, storage: Storage) -> tuple[str, ...]:
    """Return the folders of a training's folds; none where it has none."""
    of_folds = re.compile(rf"{re.escape(wanted)}-fold[0-9]+")
    names = [name for name in storage.entries() if of_folds.fullmatch(name)]
    records = {name: record for name in names if (record := latest_record(storage, name))}
    if not records:
        return ()
    from giblet_ray.judge.opened import is_finished_run

    n = next(iter(records.values())).config["data"]["split"]["folds"]
    all_names = [f"{wanted}-fold{fold}" for fold in range(1, n + 1)]
    finished = {name for name, record in records.items() if is_finished_run(record)}
    if missing := [name for name in all_names if name not in finished]:
        raise InputError(
            f"--run {wanted}: of its {n} folds, {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not finished in {storage.location}; train all "
            f"(--name {wanted} --data.split.fold all), or evaluate a fold by its own name"
        )
    return tuple(storage.describe(name) for name in all_names)
