"""The runs that a job evaluates, one after another: judged, written and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from giblet_ray.checkpoint.judged import count_reading
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.choice import best_trial, find_run
from giblet_ray.tracking.sqlite import check_store

_REGISTRY = "models:"


def evaluate_all(
    job: EvaluateJob, show: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Evaluate each run that a job names; yield what is said of it, by what it was asked for as.

    Raises
    ------
    InputError
        If there is no such run, or it cannot be judged.
    """
    with found_runs(job) as found:
        # Here, so that a run that is not there is told without the seconds that torch takes.
        from giblet_ray.judge.baseline import fit_ridge
        from giblet_ray.judge.evaluate import evaluate_run
        from giblet_ray.judge.write import draw_evaluation, record_evaluation, write_evaluation

        for wanted, location in found.items():
            show(f"evaluating {wanted}")
            ridge = (lambda opened: fit_ridge(opened, job, show)) if job.ridge else None
            evaluation = evaluate_run(location, job, show, ridge)
            checkpoint = evaluation.opened.checkpoint.location.rstrip("/")
            run_folder, _, name = checkpoint.rpartition("/")
            evaluation = evaluation.read_again(count_reading(run_folder))
            folder = f"{job.out or 'evaluation'}/{evaluation.name}"
            figure = draw_evaluation(evaluation)
            told = {
                "checkpoint": name,
                **evaluation.summary(),
                **write_evaluation(evaluation, figure, folder),
            }
            run_id = record_evaluation(evaluation, figure, job, run_folder)
            told["MLflow run"] = f"{run_id or 'none of this folder'} in {job.tracking.uri}"
            yield wanted, told


@contextmanager
def found_runs(job: EvaluateJob) -> Iterator[dict[str, str]]:
    """Give the folder of each run that is asked for, by what it was asked for as.

    A folder or URI, a run's name below ``storage.path``, a registered model, or a run or sweep of
    MLflow by name or id; of a sweep, its best trial.

    Raises
    ------
    InputError
        If there is no such run.
    """
    with ExitStack() as stack:
        yield {wanted: _found(wanted, job, stack) for wanted in job.run}


def _found(wanted: str, job: EvaluateJob, stack: ExitStack) -> str:
    if wanted.startswith(_REGISTRY):
        from giblet_ray.tracking.registry import fetch_registered

        folder, _ = stack.enter_context(fetch_registered(wanted, job.tracking.uri))
        return str(folder)
    for location in (Storage.at(job.storage.path).describe(wanted), wanted):
        try:
            find_checkpoint(location)
        except InputError:
            continue
        return location
    check_store(job.tracking.uri)
    from giblet_ray.tracking.store import open_store

    store = open_store(job.tracking.uri)
    sweeps = {name for run in store.runs() if run.is_sweep for name in (run.name, run.id)}
    return (best_trial if wanted in sweeps else find_run)(store, wanted).folder
