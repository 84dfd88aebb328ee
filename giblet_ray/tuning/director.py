"""The course of a sweep: asks the search, hears the trials, keeps journal and MLflow up to date."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from giblet_ray.checkpoint.store import drop_checkpoints, epoch_history
from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.progress import Show
from giblet_ray.secrets import redact
from giblet_ray.settings import flat_settings
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.training.identity import saved_config
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.journal import Journal, TrialRecord
from giblet_ray.tuning.ranking import repeats
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import Settings
from giblet_ray.tuning.table import SweepDisplay
from giblet_ray.tuning.trial import TrialConfig, trial_job


class SweepDirector:
    """The :class:`giblet_ray.tuning.tuner.Director` of a sweep.

    Parameters
    ----------
    base : TrainJob
        Settings of all trials; its storage path is the sweep's folder.
    settings : SweepConfig
        Budget of the sweep, and its finalists.
    search : Search
        What to try, and when to stop.
    journal, runs : Journal, SweepRuns
        Where everything is recorded.
    where, checksum : str
        The data set.
    resolved : mapping of str to object
        As a run's record has it, of settings that trials share.
    at_a_time : int
        Trials that run at the same time.
    show : Show
    """

    def __init__(
        self,
        base: TrainJob,
        settings: SweepConfig,
        search: Search,
        journal: Journal,
        runs: SweepRuns,
        where: str,
        checksum: str,
        resolved: Mapping[str, Any],
        at_a_time: int,
        show: Show,
    ) -> None:
        self.trials: dict[int, TrialRecord] = {}
        self._score = Score(base.train.score)
        self.display = SweepDisplay(show, self._score)
        self._show = show
        self._base, self._settings, self._search = base, settings, search
        self._journal, self._runs = journal, runs
        self._where, self._checksum, self._at_a_time = where, checksum, at_a_time
        self._resolved = resolved
        self._storage = Storage.at(base.storage.path)
        self._started = time.monotonic()
        self._clock: dict[int, float] = {}
        self._tracebacks: dict[int, str] = {}
        self._waiting: list[TrialRecord] = []
        self._running: set[int] = set()

    def recall(self, before: list[TrialRecord]) -> None:
        """Learn what an earlier session of the sweep did; what it left undone comes first."""
        given_up = [trial for trial in before if trial.state == "running" and trial.cause]
        for trial in before:
            self.trials[trial.number] = trial
            if trial.seed is None:
                self._search.replay(trial.number, trial.settings, trial.scores, trial.steps)
            if trial in given_up:
                trial.state = "stopped"
            elif trial.state == "running":
                self._waiting.append(trial)
            else:
                self._tell_search(trial)
        lost = [trial for trial in before if trial.scores or trial.state != "running"]
        lost = [trial for trial in lost if not self._runs.has(trial.folder)]
        if lost:
            self._show(
                "trials that are not in MLflow, or were deleted there, are recorded anew as far as "
                f"the sweep's folder knows them: {', '.join(trial.folder for trial in lost)}"
            )
        for trial in lost:
            self._record_again(trial)
        for trial in given_up:  # as the sweep was killed, before their books were closed
            self._open_run(trial)
            self.ended(trial.number, None)

    @property
    def n_trials(self) -> int:
        """Trials in all; before the search is over, as many as it has finalists for."""
        if self._search_is_over():
            return len(self.trials) + len(self._repeats())
        return self._settings.with_repeats(self._search.n_trials)

    def is_done(self) -> bool:
        """Whether no trial will start any more."""
        all_begun = not self._waiting and len(self._searched()) >= self._search.n_trials
        if all_begun and self._settings.seeds > 1:
            all_begun = self._search_is_over() and not self._repeats()
        return all_begun or bool(self._spent())

    def next_trial(self) -> TrialConfig | None:
        """Return the next trial, or None while no other may start."""
        if len(self._running) >= self._at_a_time or self._spent():
            return None
        trial = self._waiting.pop(0) if self._waiting else self._new_trial()
        if trial is None:
            return None
        self._open_run(trial)
        self._running.add(trial.number)
        return TrialConfig(trial.number, trial.replaced, trial.epoch)

    def _new_trial(self) -> TrialRecord | None:
        """Return the next trial of the search, or of a finalist; None while one is still running
        that may be among these."""
        # Of trials whose folder was deleted the numbers are free, and those of others are not.
        number, seed = max(self.trials, default=-1) + 1, None
        if len(self._searched()) < self._search.n_trials:
            settings = self._search.ask(number)
        elif not self._search_is_over():
            return None
        else:
            settings, seed = self._repeats()[0]
        epochs = settings.get("train.epochs", self._base.train.epochs)
        trial = TrialRecord(number, settings, epochs, seed=seed)
        self.trials[number] = trial
        self._journal.save(trial)
        return trial

    def _searched(self) -> list[TrialRecord]:
        return [trial for trial in self.trials.values() if trial.seed is None]

    def _search_is_over(self) -> bool:
        searched = self._searched()
        ended = all(trial.state != "running" for trial in searched)
        return ended and len(searched) >= self._search.n_trials

    def _repeats(self) -> list[tuple[Settings, int]]:
        seed = self._base.train.seed
        return repeats(list(self.trials.values()), self._settings, seed, self._score)

    def started(self, number: int) -> None:
        """Start a trial's clock."""
        self._clock[number] = time.monotonic()

    def result(self, number: int, metrics: dict[str, Any]) -> bool:
        """Record what a trial reports; return whether to stop it."""
        trial = self.trials[number]
        if "failed" in metrics:
            trial.state, trial.cause = "failed", redact(metrics["failed"])
            self._tracebacks[number] = redact(metrics["traceback"])
            return True
        self._runs.log(trial.folder, metrics.get("points", ()))
        if "epoch" not in metrics:
            return False  # from within an epoch: a checkpoint, and no score
        epoch = int(metrics["epoch"])
        if epoch in trial.scores:
            return False  # a trial that was started again repeats what it had reported
        score, steps = metrics[self._score.name], int(metrics["train/steps"])
        trial.scores[epoch], trial.steps[epoch] = score, steps
        trial.seconds += self._elapsed(number)
        stop = False
        if trial.seed is None:  # settings that have won are trained to their end
            stop = self._search.report(number, epoch, steps, score) and epoch < trial.epochs
        if stop:
            trial.state = "stopped"
            trial.cause = (
                f"{self._settings.scheduler}: {self._score.short} {score:.4f} at epoch {epoch} "
                f"({steps:,} steps) is not good enough"
            )
        elif reason := self._spent():
            stop = epoch < trial.epochs
            trial.state, trial.cause = ("stopped", reason) if stop else ("running", "")
        # Until its books are closed it is running there, with the cause that it is stopped for.
        self._journal.save(replace(trial, state="running"))
        return stop

    def ended(self, number: int, error: str | None) -> None:
        """Close the books of a trial."""
        trial = self.trials[number]
        if error is not None:
            trial.state, trial.cause = "failed", redact(_cause_of_death(error))
            self._tracebacks[number] = redact(error)
        elif trial.state == "running":
            trial.state = "finished"
        self._running.discard(number)
        self._tell_search(trial)
        best = self._best(epoch_history(self._storage, trial.folder))
        drop_checkpoints(self._storage, trial.folder)
        traceback = self._tracebacks.get(number, "")
        self._runs.end(trial.folder, trial.state, trial.cause, best, traceback)
        # Last: what the journal calls ended needs nothing more, should the sweep be killed here.
        self._journal.save(trial)
        self.display.ended(trial, list(self.trials.values()), self.n_trials, self._seconds_left())

    def close(self) -> None:
        """Close the MLflow runs of trials of an earlier session that no budget is left for."""
        for trial in self._waiting:
            self._open_run(trial)
            self._runs.end(trial.folder, trial.state, self._spent(), {}, "")

    def tick(self) -> None:
        """Show how far everything is."""
        self.display.update(list(self.trials.values()), self.n_trials, self._seconds_left())

    def _open_run(self, trial: TrialRecord, seconds: float = 0.0) -> None:
        try:
            job = trial_job(self._base, trial.number, trial.replaced)
            settings = flat_settings(saved_config(job))
        except InputError:  # they contradict one another, as the trial itself will say
            own = {**trial.replaced, "name": trial.folder}
            settings = flat_settings(saved_config(self._base)) | own
        settings |= {k: v for k, v in self._resolved.items() if k not in trial.replaced}
        data_set = (self._where, self._checksum)
        self._runs.begin(trial.number, trial.folder, settings, *data_set, seconds)

    def _record_again(self, trial: TrialRecord) -> None:
        """Tell MLflow what checkpoints and journal know of a trial."""
        history = epoch_history(self._storage, trial.folder)
        points = [
            (int(metrics["epoch"]), {k: v for k, v in metrics.items() if k != "epoch"})
            for metrics in history
        ]
        # Of a trial that has ended, the best checkpoint is left: it knows the epochs until then.
        points += [(n, {self._score.name: r}) for n, r in trial.scores.items() if n > len(history)]
        self._open_run(trial, trial.seconds)
        self._runs.log(trial.folder, points)
        if trial.state != "running":
            self._runs.end(trial.folder, trial.state, trial.cause, self._best(history), "")

    def _best(self, history: list[dict[str, float]]) -> dict[str, float]:
        """Return the metrics of the best epoch; none before the first."""
        return dict(self._score.best_epoch(history) or {})

    def _tell_search(self, trial: TrialRecord) -> None:
        if trial.seed is not None:
            return
        score = None if trial.state == "failed" else trial.best(self._score)
        self._search.finish(trial.number, score, trial.state == "stopped")

    def _elapsed(self, number: int) -> float:
        """Return the seconds since this was asked last."""
        now = time.monotonic()
        then = self._clock.get(number, now)
        self._clock[number] = now
        return now - then

    def _spent(self) -> str:
        """Say which budget is used up, if one is."""
        epochs = sum(len(trial.scores) for trial in self.trials.values())
        most, minutes = self._settings.max_epochs, self._settings.max_minutes
        if most is not None and epochs >= most:
            return f"the budget of {most} epochs is used up"
        if minutes is not None and time.monotonic() - self._started > 60 * minutes:
            return f"the budget of {minutes:g} minutes is used up"
        return ""

    def _seconds_left(self) -> float | None:
        """Return how long the sweep may still take; None before any trial has ended."""
        ended = [trial for trial in self.trials.values() if trial.state != "running"]
        if not ended:
            return None
        each = sum(trial.seconds for trial in ended) / len(ended)
        left = each * (self.n_trials - len(ended)) / self._at_a_time
        if self._settings.max_minutes is not None:
            left = min(left, self._started + 60 * self._settings.max_minutes - time.monotonic())
        return left


def _cause_of_death(error: str) -> str:
    """Say in one line why a trial's process was lost."""
    if "OutOfMemory" in error or "out of memory" in error.lower():
        return "out of memory: Ray or the system killed the trial's process"
    if "actor died" in error or "ActorDied" in error or "worker process has died" in error:
        return "the trial's process died: killed, crashed, or out of memory"
    lines = [line for line in error.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "the trial's process was lost"
