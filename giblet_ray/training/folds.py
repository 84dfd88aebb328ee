"""A run of each fold: every TR is test in one of them, and validation lies inside the rest."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from giblet_ray.cluster import places_for
from giblet_ray.config import TrainJob
from giblet_ray.progress import Show
from giblet_ray.tracking.ready import connect_beside_store
from giblet_ray.training.trainer import Check, Judge, Trained, fit, plan_training


def fold_jobs(job: TrainJob) -> list[TrainJob]:
    """Return a job for each fold, NAME-fold1 and so on; the job itself unless it asks for all."""
    if job.data.split.fold != "all":
        return [job]
    jobs = []
    for fold in range(1, job.data.split.folds + 1):
        split = job.data.split.model_copy(update={"fold": fold})
        data = job.data.model_copy(update={"split": split})
        jobs.append(job.model_copy(update={"name": f"{job.name}-fold{fold}", "data": data}))
    return jobs


def folds_at_a_time(job: TrainJob, use_gpu: bool) -> int:
    """Return how many folds of a job the cluster that is connected to has room for at a time."""
    places = places_for(job.scaling.cpus_per_worker, float(use_gpu))
    return min(len(fold_jobs(job)), max(1, places // job.scaling.max_workers))


def fit_folds(
    job: TrainJob, show: Show, check: Check, judge: Judge
) -> Iterator[tuple[str, Trained]]:
    """Train each fold that a job asks for, or go on with it; yield each with its name.

    Folds are trained side by side, as many at a time as the cluster has room for.

    Raises
    ------
    InputError
        See :func:`giblet_ray.training.trainer.fit`; if a fold has failed, once the others have
        ended.
    """
    jobs = fold_jobs(job)
    show(f"run {job.name}")
    if len(jobs) == 1:
        yield jobs[0].name, fit(jobs[0], show, check, judge)
        return
    planned = [plan_training(each) for each in jobs]
    # Until here, nothing has been started or written.
    connect_beside_store(job.tracking.uri)()
    from giblet_ray.training.side_by_side import train_side_by_side

    yield from train_side_by_side(job, planned, show, check, judge)


def folds_in_words(trained: list[Trained]) -> dict[str, str]:
    """Say what all folds reach together, for the user to read."""
    reached = [each.judged.metrics["pearson_mean"] for each in trained if each.judged is not None]
    n_trs = sum(each.judged.n_trs for each in trained if each.judged is not None)
    return {
        "test r, mean of folds": f"{statistics.fmean(reached):.4f}",
        "of each": ", ".join(f"{r:.4f}" for r in reached),
        "judged on": f"{n_trs:,} TRs, each in one fold that it trained nothing of",
    }
