"""What is said of each run, in one order for the terminal, the page and the CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from giblet_ray.comparison.result import ComparedGroup, Comparison
from giblet_ray.comparison.runs import ComparedRun, short_id, short_names, show_setting
from giblet_ray.console import duration
from giblet_ray.evaluation.score import VAL_PEARSON

_METRICS = (VAL_PEARSON, "val/pearson_median", "val/r2_mean", "val/loss")
STATUS = "status"


@dataclass(frozen=True)
class Column:
    """One column of a table of runs."""

    title: str
    """Heading."""
    text: Callable[[ComparedRun], str]
    """From a run to what is shown; empty where there is nothing."""
    value: Callable[[ComparedRun], Any]
    """From a run to what it is sorted by."""
    is_number: bool = True
    """Shown to the right."""
    rank: int = 2
    """Where there is not room for all, columns of a lower rank are shown first."""


def run_columns(comparison: Comparison, compared: ComparedGroup) -> list[Column]:
    """Return the columns of a group's table, the ones that matter most first."""
    group, metric = compared.group, comparison.metric
    rank = {run.id: index + 1 for index, run in enumerate(group.ranked)}
    columns = [
        Column("#", lambda run: str(rank.get(run.id, "")), lambda run: rank.get(run.id), rank=0),
        Column("run", lambda run: comparison.labels[run.id], lambda run: run.name, False, 0),
        Column(
            metric, lambda run: _score(run, compared, metric), lambda run: run.value(metric), rank=0
        ),
    ]
    if any(not run.is_done for run in group.runs):
        columns.append(Column(STATUS, _status, _status, False, 1))
    names = short_names(compared.settings)
    columns += [_setting(name, names[name]) for name in compared.settings]
    columns += [
        Column("time", lambda run: duration(run.seconds), lambda run: run.seconds, rank=1),
        Column("rows/s", _speed, lambda run: run.rows_per_second, rank=1),
        Column("epoch", _epoch, lambda run: run.best_epoch, rank=3),
    ]
    for other in _METRICS:
        if other != metric and any(run.value(other) is not None for run in group.runs):
            columns.append(_metric(other))
    if len({run.commit for run in group.runs}) > 1:
        columns.append(Column("commit", lambda run: short_id(run.commit), _commit, False))
    return columns


def heading(compared: ComparedGroup) -> str:
    """Return what all of a group's runs share: data set, split, and code if it is one."""
    commits = {run.commit for run in compared.group.runs}
    if len(commits) > 1 or not (commit := commits.pop()):
        return compared.group.title
    return f"{compared.group.title}, commit {short_id(commit)}"


def number(value: float | None) -> str:
    """Return a score with four decimals, or nothing."""
    return "" if value is None else f"{value:.4f}"


def _score(run: ComparedRun, compared: ComparedGroup, metric: str) -> str:
    interval = compared.intervals.get(run.id)
    spread = f" [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""
    return number(run.value(metric)) + spread


def _setting(name: str, title: str) -> Column:
    def text(run: ComparedRun) -> str:
        return show_setting(run.settings[name]) if name in run.settings else ""

    return Column(title, text, lambda run: run.settings.get(name))


def _metric(name: str) -> Column:
    return Column(name, lambda run: number(run.value(name)), lambda run: run.value(name), rank=3)


def _status(run: ComparedRun) -> str:
    return run.status.lower() + (f": {run.cause}" if run.cause else "")


def _speed(run: ComparedRun) -> str:
    return "" if run.rows_per_second is None else f"{run.rows_per_second:,.0f}"


def _epoch(run: ComparedRun) -> str:
    return f"{run.best_epoch} of {run.epochs}" if run.best_epoch else ""


def _commit(run: ComparedRun) -> str:
    return run.commit
