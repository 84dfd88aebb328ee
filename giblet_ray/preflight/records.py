"""``--preflight`` of compare.py, evaluate.py and promote.py: what would be read and changed."""

from __future__ import annotations

from giblet_ray.comparison.compare import comparison_folder
from giblet_ray.comparison.read import read_runs
from giblet_ray.comparison.runs import group_runs
from giblet_ray.config import CompareJob, EvaluateJob, PromoteJob
from giblet_ray.judge.run_name import folder_of, name_of
from giblet_ray.judge.runs import found_runs
from giblet_ray.preflight.report import Report
from giblet_ray.progress import Show
from giblet_ray.promotion.promote import promote
from giblet_ray.tracking.store import open_store


def preflight_comparison(job: CompareJob, show: Show) -> None:
    """Say which runs would be compared, and where the page would be; write nothing.

    Raises
    ------
    InputError
        If the store cannot be read, or a run or the folder cannot be used.
    """
    storage = comparison_folder(job)
    experiment = job.experiment or job.tracking.experiment
    runs = read_runs(job.tracking.uri, experiment, job.runs, job.sweep)
    report = Report(show)
    groups = group_runs(runs, job.metric)
    rows = {
        "runs": f"{len(runs):,} of experiment {experiment}",
        "ranked apart": f"{len(groups)} groups of the same data and split",
        "page": f"would be written to {storage.location}",
    }
    for group in groups:
        best = group.ranked[0].name if group.ranked else "none is scored yet"
        rows[group.title] = f"{len(group.runs):,} runs; best by {job.metric}: {best}"
    report.add("comparison", rows)
    report.conclude("nothing was written")


def preflight_evaluation(job: EvaluateJob, show: Show) -> None:
    """Say which runs would be judged on which TRs; predict nothing.

    Raises
    ------
    InputError
        If there is no such run, or its data set cannot be read.
    """
    # Here, so that what is not there is told without the seconds that torch takes.
    from giblet_ray.judge.opened import open_run
    from giblet_ray.judge.partition import plan_partition
    from giblet_ray.judge.regions import read_atlas

    report = Report(show)
    with found_runs(job) as found:
        for wanted, locations in found.items():
            folds = [open_run(each, job.dataset, packages=job.packages) for each in locations]
            read_atlas(folds[0].spaces, job.atlas, job.atlas_names)
            n_trs = sum(len(span) for fold in folds for span in fold.data.split.test)
            rows = {
                "checkpoint": ", ".join(fold.checkpoint.location for fold in folds),
                "test TRs": f"{n_trs:,} of films, {folds[0].data.units_in_words} units",
                "beside it": "banded ridge, fitted unless it is there" if job.ridge else "none",
                "out": folder_of(job.out, name_of(folds[0].checkpoint.record, len(folds))),
            }
            if job.partition != "none":
                rows["partition"] = plan_partition(job.partition, folds)
            report.add(wanted, rows)
    report.conclude("nothing was read of the test TRs")


def preflight_promotion(job: PromoteJob, show: Show) -> None:
    """Say what an alias would name and names now, or what would be stacked; change nothing.

    Raises
    ------
    InputError
        If there is no such run, or it would not be promoted.
    """
    report = Report(show)
    if job.stacks:
        from giblet_ray.promotion.plan_stack import plan_stack

        report.add("would be stacked", plan_stack(open_store(job.tracking.uri), job).summary())
    else:
        report.add("would be promoted", promote(job, show).summary())
    report.conclude("nothing was changed")
