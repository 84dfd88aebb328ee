"""Compare the trainings of an experiment, from top to bottom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.config import CompareJob
from giblet_ray.console import say_stages
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, nearest
from giblet_ray.progress import Show
from giblet_ray.tracking.recorded_run import find_run_id
from giblet_ray.tracking.sqlite import check_store

if TYPE_CHECKING:
    from giblet_ray.comparison.result import Comparison
    from giblet_ray.comparison.write import Written


def compare(job: CompareJob, show: Show) -> tuple[Comparison, Written]:
    """Compare trainings as a job says, and write the page, figures and tables.

    Parameters
    ----------
    job : CompareJob
        Validated settings.
    show : Show

    Raises
    ------
    InputError
        For an experiment, run or metric that is not there, a store that cannot be read, or two
        runs that were asked for and cannot be paired.
    """
    report = say_stages(show)
    experiment = job.experiment or job.tracking.experiment
    storage = comparison_folder(job)
    check_store(job.tracking.uri)
    # What is wrong so far is told before MLflow is imported, which takes seconds.
    from giblet_ray.comparison.read import read_runs

    runs = read_runs(job.tracking.uri, experiment, job.runs, job.sweep, report)
    _check_metric(job.metric, runs)
    chosen = _chosen_pair(job.pair, runs)
    # Torch and all that draws take seconds more.
    from giblet_ray.comparison.groups import compare_runs
    from giblet_ray.comparison.write import write_comparison

    comparison = compare_runs(job, experiment, runs, chosen, report)
    return comparison, write_comparison(comparison, storage)


def comparison_folder(job: CompareJob) -> Storage:
    """Return the folder for page, figures and tables, which need not be there yet.

    Raises
    ------
    InputError
        If it is a file.
    """
    experiment = job.experiment or job.tracking.experiment
    name = re.sub(r"[^\w.-]+", "_", experiment).strip(".") or "_"
    storage = Storage.at(job.out or f"comparison/{name}")
    if storage.is_file():
        raise InputError(f"--out {job.out}: a file; a folder is accepted, existing or not")
    return storage


def _check_metric(metric: str, runs: Sequence[ComparedRun]) -> None:
    has = sorted({name for run in runs for name in (*run.curves, *run.logged_best)})
    if metric in has:
        return
    if not has:
        raise InputError(
            "--experiment: none of its trainings has completed an epoch: there is no metric yet"
        )
    raise InputError(
        f"--metric {metric}: no run has it{nearest(metric, has)}; they have {', '.join(has)}"
    )


def _chosen_pair(
    names: Sequence[str], runs: Sequence[ComparedRun]
) -> tuple[ComparedRun, ComparedRun] | None:
    if not names:
        return None
    by_id = {run.id: run for run in runs}
    names_by_id = {run.id: run.name for run in runs}
    a, b = (
        by_id[find_run_id(names_by_id, name, "--pair", "the runs that are compared")]
        for name in names
    )
    if a is b:
        raise InputError(
            f"--pair {','.join(names)}: one run twice; two different ones are accepted"
        )
    return a, b
