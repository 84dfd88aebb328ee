"""What a user sees of a sweep: a table that lives on a terminal, or a line per event in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from giblet_ray.evaluation.score import Score
from giblet_ray.progress import Show
from giblet_ray.tuning.journal import TrialRecord
from giblet_ray.tuning.ranking import by_score, by_settings, seeds_of
from giblet_ray.tuning.space import show_value

_MOST_ROWS = 24
_LOG_WIDTH = 160
_LINE_SECONDS = 15.0
"""Time between lines on the progress of running trials, where there is no terminal."""


def time_left(seconds: float | None) -> str:
    """Return a time to wait, as people say it."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def trials_table(trials: Sequence[TrialRecord], title: str, score: Score) -> Table:
    """Return trials as a table, in the order given.

    Parameters
    ----------
    trials : sequence of TrialRecord
        At least one.
    title : str
        Heading.
    score : Score
        What they are chosen by.
    """
    names = list(trials[0].settings)
    reached = {group[0].number: seeds_of(group, score) for group in by_settings(trials, score)}
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    settings = (name.partition(".")[2] for name in names)
    for heading in ("trial", *settings, "epoch", f"best {score.short}"):
        table.add_column(heading, overflow="fold")
    with_seeds = any(trial.seed is not None for trial in trials)
    for heading in ("seed", "mean, SD over seeds") if with_seeds else ():
        table.add_column(heading, overflow="fold")
    for heading in ("state", "time"):
        table.add_column(heading, no_wrap=True)
    for trial in trials:
        best = trial.best(score)
        seconds: float | None = trial.seconds
        if trial.state == "running":
            left_epochs = trial.epochs - trial.epoch
            seconds = trial.seconds / trial.epoch * left_epochs if trial.epoch else None
        seed, seeds = trial.seed, reached.get(trial.number)
        of_seeds = "" if seeds is None else f"{seeds.mean:.4f}, {seeds.spread:.4f}"
        left = " left" if trial.state == "running" and seconds is not None else ""
        table.add_row(
            trial.folder,
            *(show_value(trial.settings[name]) for name in names),
            f"{trial.epoch}/{trial.epochs}",
            "" if best is None else f"{best:.4f}",
            *(("" if seed is None else str(seed), of_seeds) if with_seeds else ()),
            trial.state,
            time_left(seconds) + left,
        )
    return table


def table_console() -> Console:
    """Return a console that does not fold tables where no terminal limits their width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_LOG_WIDTH)


class SweepDisplay:
    """Shows how far a sweep is.

    Parameters
    ----------
    show : callable
        Is given each line, where there is no terminal.
    score : Score
        What trials are chosen by.
    """

    def __init__(self, show: Show, score: Score) -> None:
        self._show, self._score = show, score
        console = Console()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._said = time.monotonic()

    def __enter__(self) -> SweepDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, trials: Sequence[TrialRecord], n_trials: int, left: float | None) -> None:
        """Show the present state; cheap to call often."""
        now = time.monotonic()
        running = [trial for trial in trials if trial.state == "running"]
        if self._live is not None:
            if now - self._said > 0.5 and trials:
                self._said = now
                shown = [
                    *running,
                    *by_score([t for t in trials if t.state != "running"], self._score),
                ]
                title = self._heading(trials, n_trials, left)
                table = trials_table(shown[:_MOST_ROWS], title, self._score)
                self._live.update(table, refresh=True)
        elif now - self._said > _LINE_SECONDS:
            self._said = now
            for trial in running:
                best = self._best(trial)
                self._show(f"     {trial.folder}  epoch {trial.epoch}/{trial.epochs}{best}")

    def ended(
        self, trial: TrialRecord, trials: Sequence[TrialRecord], n_trials: int, left: float | None
    ) -> None:
        """Say that a trial has ended."""
        if self._live is not None:
            return
        self._said = time.monotonic()
        settings = " ".join(f"{name}={show_value(v)}" for name, v in trial.replaced.items())
        line = f"{trial.folder}  {settings}  {trial.state} after epoch {trial.epoch}"
        line += self._best(trial)
        line += f" ({trial.cause})" if trial.cause else ""
        self._show(f"{line}  [{self._heading(trials, n_trials, left)}]")

    def _heading(self, trials: Sequence[TrialRecord], n_trials: int, left: float | None) -> str:
        done = sum(trial.state != "running" for trial in trials)
        best = next(iter(by_score(trials, self._score)), None)
        heading = f"{done} of {n_trials} trials"
        if best is not None and (said := self._best(best)):
            heading += f"{said} ({best.folder})"
        return heading + (f", {time_left(left)} left" if left is not None else "")

    def _best(self, trial: TrialRecord) -> str:
        best = trial.best(self._score)
        return "" if best is None else f", best {self._score.short} {best:.4f}"
