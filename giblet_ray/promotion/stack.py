"""Finished runs, stacked: a run of its own, fitted on validation TRs and judged on test TRs.

::

    members  --validation TRs-->  weights of each unit   (chosen between stretches of them)
    stack    --test TRs------->   its r, that of each member alone, and the difference

Shapes: M members, V units.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.record import Position
from giblet_ray.checkpoint.scratch import scratch_folder
from giblet_ray.checkpoint.stacked import save_stack
from giblet_ray.checkpoint.store import keep_checkpoint, latest_record
from giblet_ray.config import PromoteJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.members import judge_stack
from giblet_ray.judge.opened import open_run
from giblet_ray.models.stack.weights import Weights
from giblet_ray.progress import Progress, Show
from giblet_ray.promotion.plan_stack import Plan, is_of, plan_stack
from giblet_ray.promotion.stack_record import (
    job_of_stack,
    kept_weights,
    record_of_stack,
    score_validation,
    tells_subjects_apart,
)
from giblet_ray.promotion.validation import gap_of, predict_validation
from giblet_ray.tracking.mlflow_run import MlflowRun, ending
from giblet_ray.tracking.recorded_run import RecordedRun
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.store import Store
from giblet_ray.training.report import report_best


def stack_runs(store: Store, job: PromoteJob, show: Show) -> RecordedRun:
    """Stack runs into one of its own, judge it, record it, and say by how much each carries.

    One that is there is not made again.

    Raises
    ------
    InputError
        If they cannot be stacked, or another run has the stack's name.
    """
    plan = plan_stack(store, job)
    storage = Storage.at(job.storage.path)
    folder = storage.describe(plan.name)
    with claimed(folder, "--name"):
        made = latest_record(storage, plan.name)
        if made is None:
            _make(plan, job, storage, show)
        elif not is_of(made, plan):
            raise InputError(f"--name {plan.name}: {folder} holds another run; give another --name")
        with tracking_errors(job.tracking.uri):
            recorded = [run for run in store.runs() if run.folder == folder]
        if not recorded or recorded[0].status != "FINISHED":
            return _record(plan.name, job, store, storage, show)
    show(f"run {plan.name} is there already")
    return recorded[0]


def _make(plan: Plan, job: PromoteJob, storage: Storage, show: Show) -> None:
    """Find the weights, and keep the stack as a run's one checkpoint."""
    opened, gap_trs = plan.opened, gap_of(plan.opened[0])
    shared = not any(map(tells_subjects_apart, opened))
    with scratch_folder() as files, scratch_folder() as folder, Progress(show) as progress:

        def report(done: float) -> None:
            progress.doing = f"predicting validation TRs {done:.0%}"

        predicted = predict_validation(opened, shared, files, report)
        progress.doing = "finding weights"
        found = {name: each.find_weights(gap_trs) for name, each in predicted.items()}
        for name, weights in found.items():
            show(_in_words(name, weights, list(plan.members)))
        run_job = job_of_stack(plan, job, found)
        run = record_of_stack(run_job, opened[0])
        held_out, metrics = score_validation(run_job, opened[0], predicted, found, gap_trs)
        position = Position(epoch=1, step=1, history=[{"epoch": 1, **metrics}])
        checkpoints = [each.checkpoint for each in opened]
        save_stack(folder, checkpoints, kept_weights(found, run), run, position, held_out)
        keep_checkpoint(storage, plan.name, folder, position.name)


def _in_words(name: str, weights: Weights, members: Sequence[str]) -> str:
    each = ", ".join(
        f"{member} {weight:.2f}"
        for member, weight in zip(members, weights.own_VM.mean(0).tolist(), strict=True)
    )
    how = "too few validation TRs to choose by" if not len(weights.folds_KVM) else "chosen"
    return (
        f"weights, mean over units of {name}: {each}; shrunk by {weights.shrinkage:.1f} ({how}) to "
        "those that fit all units"
    )


def _record(name: str, job: PromoteJob, store: Store, storage: Storage, show: Show) -> RecordedRun:
    """Judge a stack on test TRs, and record it in MLflow as a run that has ended."""
    folder = storage.describe(name)
    opened = open_run(folder, packages=job.packages)
    record, checkpoint = opened.checkpoint.record, opened.checkpoint
    judged, members = judge_stack(opened, storage, name, show)
    show(f"run {name}, {judged.name}: {judged.in_words()}")
    for each in members:
        show(f"member {each.name}: {each.in_words()}")
    with tracking_errors(job.tracking.uri):
        run = MlflowRun(job.tracking.uri, job.tracking.experiment, name, folder)
        with ending(run.close):
            run.epochs(record.position.history)
            run.text(yaml.safe_dump(record.config, sort_keys=False), "config.yaml")
            run.describe(record.settings, record.dataset.location, record.dataset.checksum)
            for each in members:
                run.metrics(each.logged(judged.name))
            how = (record.chosen_by, job.tracking.log_model, job.packages, judged)
            report_best(run, checkpoint, record.position.history, *how)
        return store.run(run.id)
