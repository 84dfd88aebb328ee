"""A planned sweep, from the reading of its data to the report: what its driver does."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import yaml

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.seeds import Seeds, keep_seeds
from giblet_ray.checkpoint.store import best_checkpoint, epoch_history
from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.residence import place_data
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.judge.judge import judge_run
from giblet_ray.progress import Show
from giblet_ray.settings import flat_settings
from giblet_ray.tracking.mlflow_run import MlflowRun, ending
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.training.identity import chosen_units, run_record, saved_config
from giblet_ray.training.session import read_data
from giblet_ray.training.trainer import choose_gpu
from giblet_ray.tuning.director import SweepDirector
from giblet_ray.tuning.journal import Journal, TrialRecord
from giblet_ray.tuning.plan import fitting_trials, trial_resources
from giblet_ray.tuning.ranking import by_settings, seeds_of
from giblet_ray.tuning.resume import comparing, earlier_trials, resuming, sweep_config, sweep_folder
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import Space, with_settings
from giblet_ray.tuning.sweep import Check, Swept
from giblet_ray.tuning.trial import Shared
from giblet_ray.tuning.tuner import run_trials

BEST = "best.yaml"
_REPORT = "giblet_ray.training.report"
"""What draws and logs at the end: its libraries are imported while the trials train."""


def run_sweep(
    job: TuneJob,
    journal: Journal,
    space: Space,
    data: DataView,
    show: Show,
    check: Check,
) -> Swept:
    """Run a sweep on the cluster that is connected to, while no other job works on it.

    Parameters
    ----------
    job, show, check
        As :func:`giblet_ray.tuning.sweep.sweep` is given them.
    journal : Journal
        The sweep's records.
    space : Space
        What it searches.
    data : DataView
        What all trials read, together.
    """
    use_gpu = choose_gpu(job)
    at_a_time = fitting_trials(job, use_gpu)
    check(job, space, data, use_gpu, show)
    folder, score = sweep_folder(job), Score(job.train.score)
    storage, checksum = Storage.at(folder), data.dataset.manifest.checksum
    with _recorded(job, storage, show) as runs:
        before = earlier_trials(job, journal, data)
        config = sweep_config(job)
        if not journal.exists():
            units = [each.model_dump() for each in chosen_units(data)]
            journal.begin(config, checksum, units, data.same)
        where = data.dataset.storage.location
        text = yaml.safe_dump(config, sort_keys=False)
        with tracking_errors(job.tracking.uri):
            runs.describe(flat_settings(_told(config)), where, checksum, text)
        runs.watch(job.tracking.system_metrics_seconds)
        data = place_data(data, job.data.residence, use_gpu)
        data, _rows = read_data(data, show)  # which own the blocks: kept until trials are done
        base = with_settings(job, {"storage.path": folder})  # trials lie below the sweep
        search = Search(space, job.sweep, score)
        resolved = run_record(base, data, None).resolved
        about = (where, checksum, resolved, at_a_time, show)
        director = SweepDirector(base, job.sweep, search, journal, runs, *about)
        director.recall(before)
        show(
            f"{director.n_trials} trials of {job.train.epochs} epochs, {at_a_time} at a time: "
            f"{job.sweep.search} over {', '.join(space)}; scheduler {job.sweep.scheduler}"
            f"{_with_seeds(job)}"
        )
        with director.display, ThreadPoolExecutor(1) as meanwhile:
            meanwhile.submit(importlib.import_module, _REPORT)
            resources = trial_resources(job, use_gpu)
            run_trials(director, Shared(base, data, use_gpu), resources, at_a_time)
        director.close()
        ranked = by_settings(list(director.trials.values()), score)
        trials = [trial for group in ranked for trial in group]
        if not any(t.state != "failed" and t.best(score) is not None for t in trials):
            causes = "; ".join(dict.fromkeys(t.cause for t in trials)) or "none was started"
            raise InputError(f"sweep {job.name}: no trial was scored that has not failed: {causes}")
        seeds = seeds_of(ranked[0], score)
        if seeds is None and job.sweep.seeds > 1:
            show("note: no settings were trained to their end with several seeds: one trial wins")
        best_settings, judged = _crown(job, storage, data.dataset, trials[0], seeds, runs, show)
    return Swept(
        job.name,
        score,
        trials,
        seeds,
        best_settings,
        judged,
        runs.parent.id,
        runs.parent.uri,
        comparing(job),
    )


@contextmanager
def _recorded(job: TuneJob, storage: Storage, show: Show) -> Iterator[SweepRuns]:
    """Open the sweep's MLflow runs, and end them with what became of the block."""
    again = resuming(job)
    where = (job.tracking.uri, job.tracking.experiment, job.name, storage)
    runs = SweepRuns(*where, show, again)

    def end(status: str) -> None:
        if status == "KILLED":
            show(f"stopping: python jobs/tune.py {again} goes on")
        runs.close(status, job.tracking.patience_seconds)

    with ending(end):
        yield runs


def _with_seeds(job: TuneJob) -> str:
    if job.sweep.seeds == 1:
        return ""
    return f"; then the best {job.sweep.finalists} with {job.sweep.seeds} seeds in all"


def _told(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as MLflow's parent run has them: the space by name, as it is written."""
    told = {key: value for key, value in config.items() if key != "sweep"}
    searched = {k: v for k, v in config["sweep"].items() if k != "space"}
    space = {f"space.{name}": str(domain) for name, domain in config["sweep"]["space"].items()}
    return {**told, "sweep": {**searched, **space}}


def _crown(
    job: TuneJob,
    storage: Storage,
    dataset: Dataset,
    best: TrialRecord,
    seeds: Seeds | None,
    runs: SweepRuns,
    show: Show,
) -> tuple[str, Judged]:
    """Record and judge the best trial, and write its settings for jobs/train.py.

    Returns where the settings are, and its test: the other trials have none. `seeds` is what they
    reach with several.
    """
    trained = with_settings(job, best.replaced)
    config = saved_config(trained)
    del config["name"]
    score = Score(job.train.score)
    reached = f"{score.label} {best.best(score):.4f}"
    reached += f"; {seeds.in_words()}" if seeds else ""
    header = f"# Best of sweep {job.name}: trial {best.folder}, {reached}\n"
    with storage.write(BEST) as stream:
        stream.write((header + yaml.safe_dump(config, sort_keys=False)).encode())
    checkpoint = best_checkpoint(storage, best.folder)
    history = epoch_history(storage, best.folder)
    if checkpoint is None:
        raise InputError(f"{storage.describe(best.folder)}: the best trial's checkpoints are gone")
    metrics = dict(score.best_epoch(history) or {})
    if seeds is not None:
        keep_seeds(storage, best.folder, seeds)
    judged = judge_run(storage, best.folder, dataset, job.packages, show)

    def report(child: MlflowRun) -> None:
        show("drawing the best trial")
        how = (score, job.tracking.log_model, job.packages, judged)
        importlib.import_module(_REPORT).report_best(child, checkpoint, history, *how)

    told = judged.logged() | (seeds.logged() if seeds else {})
    runs.crown(best.folder, metrics, told, report)
    return storage.describe(BEST), judged
