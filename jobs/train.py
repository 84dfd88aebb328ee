"""Train an encoding model on a data set.

    python jobs/train.py --dataset data/film --name first --model.kernel_sizes 3,7,15
    python jobs/train.py --dataset data/film --name cv --data.split.folds 5 --data.split.fold all

Takes a data set that jobs/precompute.py wrote. Gives a run: checkpoints (best and latest) below
--storage.path, and an MLflow run with its settings, curves and model. The best epoch is chosen on
validation TRs and judged, once, on test TRs. A run that was interrupted continues when it is
started again under its name.
"""

from __future__ import annotations

import shlex
from typing import Any

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.cli import run_job
from giblet_ray.config import TrainJob
from giblet_ray.console import show, show_table
from giblet_ray.settings import words_of


def main(job: TrainJob) -> None:
    """Train, and say where everything is."""
    if job.preflight.only:
        from giblet_ray.preflight.training import preflight_training

        preflight_training(job, show)
        return
    from giblet_ray.preflight.brief import check_training
    from giblet_ray.training.folds import fit_folds, folds_in_words

    folds = []
    for name, trained in fit_folds(job, show, check_training, judge):
        show_table(name if job.data.split.fold == "all" else "trained", trained.summary())
        folds.append(trained)
    if job.data.split.fold == "all":
        show_table("all folds", folds_in_words(folds))
    where = words_of(job, "storage.path", "tracking.uri")
    command = shlex.join(["python", "jobs/evaluate.py", "--run", job.name, *where])
    show(f"\nchance, intervals, ridge beside it: {command}")


def judge(*finished: Any) -> Judged:
    """Judge the chosen epoch, with what takes seconds to import."""
    from giblet_ray.judge.judge import judge_run

    return judge_run(*finished)


if __name__ == "__main__":
    run_job(TrainJob, main)
