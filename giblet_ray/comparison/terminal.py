"""What the terminal shows of a comparison."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from giblet_ray.comparison.columns import STATUS, Column, heading, run_columns
from giblet_ray.comparison.result import ComparedGroup, Comparison, Pair
from giblet_ray.evaluation.paired_figure import show_p
from giblet_ray.progress import Show

_MAX_ROWS = 20
_MAX_IMPORTANCES = 8
_WIDTH_WITHOUT_TERMINAL = 120


def show_comparison(comparison: Comparison, show: Show) -> None:
    """Show the runs of every group side by side, what matters, and the paired difference."""
    width = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns
    for number, compared in enumerate(comparison.groups, 1):
        if len(comparison.groups) > 1:
            show(f"\ngroup {number}: {heading(compared)}")
        else:
            show(f"\n{heading(compared)}")
        _show_table(comparison, compared, width, show)
        show(importance_line(compared))
    if comparison.pair is not None:
        show("")
        show(
            pair_line(
                comparison.pair,
                comparison.labels[comparison.pair.a.id],
                comparison.labels[comparison.pair.b.id],
            )
        )
    if comparison.metric.startswith("val/"):
        show("note: scores are of validation TRs, which each run was selected on")
    for note in comparison.notes:
        show(f"note: {note}")


def importance_line(compared: ComparedGroup) -> str:
    """Return how important each setting is, with its interval, in one line."""
    found = compared.importance
    if not found.shares:
        return f"importance of settings: {found.note}"
    names = list(found.shares)
    parts = [f"{name} {found.in_words(name)}" for name in names[:_MAX_IMPORTANCES]]
    more = f", {len(names) - _MAX_IMPORTANCES} more" if len(names) > _MAX_IMPORTANCES else ""
    return f"importance of settings: {', '.join(parts)}{more} ({found.note})"


def pair_line(pair: Pair, label_a: str, label_b: str) -> str:
    """Return the paired difference of two runs, in one line."""
    test = pair.test
    family = ""
    if test.family_p != test.p:
        least = f"{show_p(test.smallest_p)} at the least"
        family = f", {show_p(test.family_p)} as one of all pairs, {least}"
    return (
        f"{label_a} - {label_b}: difference in mean r {test.difference:+.4f} "
        f"[{test.low:+.4f}, {test.high:+.4f}], p = {show_p(test.p)}{family} (two-sided, over "
        f"{test.n_trs:,} validation TRs of {pair.n_voxels:,} voxels)"
    )


def _show_table(comparison: Comparison, compared: ComparedGroup, width: int, show: Show) -> None:
    runs = compared.group.runs
    shown = runs[:_MAX_ROWS]
    # What became of a run in one word: why may be long, and stands below.
    columns = [
        replace(column, text=lambda run: run.status.lower()) if column.title == STATUS else column
        for column in run_columns(comparison, compared)
    ]
    fitting = _fitting(columns, [[c.text(run) for run in shown] for c in columns], width)
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for column in fitting:
        # What is too long for a narrow terminal goes on in the next line: nothing is cut.
        table.add_column(
            Text(column.title), justify="right" if column.is_number else "left", overflow="fold"
        )
    for run in shown:
        table.add_row(*(Text(column.text(run)) for column in fitting))
    Console(width=width, highlight=False).print(table)
    told: dict[str, list[str]] = {}
    for run in shown:
        if run.cause:
            # Trials that one scheduler has stopped share a line, each with its numbers on the page.
            stopped = run.status == "STOPPED" and run in compared.group.ranked
            cause = run.cause.partition(":")[0] if stopped else run.cause
            told.setdefault(f"{run.status.lower()}: {cause}", []).append(comparison.labels[run.id])
    for became, labels in told.items():
        show(f"  {', '.join(labels)} {became}")
    left_out = [column.title for column in columns if column not in fitting]
    if len(runs) > len(shown):
        show(f"  {len(runs) - len(shown)} more runs are on the page and in runs.csv")
    if left_out:
        show(f"  for lack of width on the page only: {', '.join(left_out)}")


def _fitting(columns: Sequence[Column], texts: Sequence[Sequence[str]], width: int) -> list[Column]:
    """Return the columns that a terminal has room for, in order; those of rank 0 in any case."""
    room = width
    chosen = []
    order = sorted(range(len(columns)), key=lambda index: (columns[index].rank, index))
    for index in order:
        needed = max(map(len, (columns[index].title, *texts[index]))) + 2
        if columns[index].rank == 0 or needed <= room:
            chosen.append(index)
            room -= needed
    return [columns[index] for index in sorted(chosen)]
