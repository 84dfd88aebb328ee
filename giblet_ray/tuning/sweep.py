"""A sweep of trainings: planned here, run by Ray Tune, and what has come of it.

What is wrong with settings and data is told before Ray, MLflow and torch are imported; see
:mod:`giblet_ray.training.trainer`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.judged import Judged
from giblet_ray.checkpoint.seeds import Seeds
from giblet_ray.config import TuneJob
from giblet_ray.dataset.view import DataView
from giblet_ray.evaluation.score import Score
from giblet_ray.progress import Show
from giblet_ray.tracking.ready import connect_beside_store
from giblet_ray.tuning.journal import TrialRecord
from giblet_ray.tuning.plan import planned_sweep, with_grace
from giblet_ray.tuning.resume import earlier_trials, sweep_folder
from giblet_ray.tuning.space import Space, show_value
from giblet_ray.tuning.table import table_console, trials_table

Check = Callable[[TuneJob, Space, DataView, bool, Show], None]


@dataclass(frozen=True)
class Swept:
    """A finished sweep."""

    name: str
    """Of the sweep."""
    score: Score
    """What trials are chosen by."""
    trials: list[TrialRecord]
    """All trials, those with the best settings first, of these the best."""
    seeds: Seeds | None
    """What the best settings reach, where they were trained with several seeds."""
    best_settings: str
    """The YAML file that jobs/train.py --config takes."""
    judged: Judged
    """The best trial's test."""
    mlflow_run: str
    """Id of the parent run."""
    tracking_uri: str
    """Where MLflow has it."""
    comparing: str
    """What jobs/compare.py takes, to compare its trials."""

    def print_table(self) -> None:
        """Print the trials, the best first, and why some have failed."""
        table_console().print(trials_table(self.trials, f"sweep {self.name}", self.score))
        for trial in self.trials:
            if trial.state == "failed":
                table_console().print(f"{trial.folder} failed: {trial.cause}", markup=False)

    def summary(self) -> dict[str, str]:
        """Return what came out of it and where it is, for the user to read."""
        best = self.trials[0]
        states = [trial.state for trial in self.trials]
        counts = {state: states.count(state) for state in ("finished", "stopped", "failed")}
        return {
            "best trial": f"{best.folder}, {self.score.label} {best.best(self.score):.4f}",
            self.judged.name: self.judged.in_words(),
            "its settings": " ".join(f"{k}={show_value(v)}" for k, v in best.replaced.items()),
            **({"they reach": self.seeds.in_words()} if self.seeds else {}),
            "trials": ", ".join(f"{n} {state}" for state, n in counts.items() if n),
            "epochs": f"{sum(len(trial.scores) for trial in self.trials)}",
            "MLflow run": f"{self.mlflow_run} in {self.tracking_uri}",
            "train it": f"python jobs/train.py --config {shlex.quote(self.best_settings)}",
            "compare": f"python jobs/compare.py {self.comparing}",
        }


def sweep(job: TuneJob, show: Show, check: Check = lambda *sweep: None) -> Swept:
    """Run the sweep that a job describes, or go on with one that was interrupted.

    Parameters
    ----------
    job : TuneJob
        Validated settings.
    show : Show
    check : callable, optional
        Is shown what will be tried before it is, and may refuse it with an InputError: the job,
        its space, what all trials read, whether these have GPUs, and `show`.

    Raises
    ------
    InputError
        For a space or settings that the data set or the cluster do not allow, a name that is
        taken, a sweep to resume that is not there, was another, or is run by another job, or if
        every trial failed.
    """
    job, journal, space, data = planned_sweep(job)
    job = with_grace(job, data)
    earlier_trials(job, journal, data)
    # Until here, nothing has been started or written: mistakes are told within seconds.
    with claimed(sweep_folder(job), "--name"):
        connect_beside_store(job.tracking.uri)()
        from giblet_ray.tuning.session import run_sweep

        return run_sweep(job, journal, space, data, show, check)
