"""One self-contained HTML page of a comparison: open it anywhere, send it to anyone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from giblet_ray.comparison.columns import STATUS, Column, heading, number, run_columns
from giblet_ray.comparison.page_script import SCRIPT
from giblet_ray.comparison.result import ComparedGroup, Comparison
from giblet_ray.comparison.runs import ComparedRun, is_number, show_setting
from giblet_ray.comparison.terminal import pair_line
from giblet_ray.page import Picture, whole_page


def page(
    comparison: Comparison, of_groups: Sequence[Sequence[Picture]], of_pair: Sequence[Picture]
) -> str:
    """Return the page.

    Parameters
    ----------
    comparison : Comparison
        What was found.
    of_groups : sequence of sequence of Picture
        Figures of each group.
    of_pair : sequence of Picture
        Figures of the paired difference.
    """
    many = len(comparison.groups) > 1
    sections = []
    for index, (compared, pictures) in enumerate(zip(comparison.groups, of_groups, strict=True), 1):
        title = f"Group {index}: {heading(compared)}" if many else heading(compared)
        sections += [
            f"<section><h2>{escape(title)}</h2>",
            _runs_table(comparison, compared),
            _importance(compared),
            *(picture.html() for picture in pictures),
            "</section>",
        ]
    title = f"Comparison of {comparison.experiment}"
    body = [_notes(comparison.notes), *sections, _pair_section(comparison, of_pair)]
    return whole_page(title, _lead(comparison), [*body, _reading(comparison)], SCRIPT)


def _lead(comparison: Comparison) -> str:
    n_runs = sum(len(compared.group.runs) for compared in comparison.groups)
    lines = [f'<p class="soft">{n_runs} runs in <code>{escape(comparison.uri)}</code></p>']
    for index, compared in enumerate(comparison.groups, 1):
        if compared.group.ranked:
            best = compared.group.ranked[0]
            where = f" of group {index}" if len(comparison.groups) > 1 else ""
            label, value = comparison.labels[best.id], number(best.value(comparison.metric))
            lines.append(
                f'<p class="lead">Best run{where}: <b>{escape(label)}</b>, '
                f"{escape(comparison.metric)} {value}</p>"
            )
    return "".join(lines)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _runs_table(comparison: Comparison, compared: ComparedGroup) -> str:
    columns = run_columns(comparison, compared)
    heads = "".join(
        f'<th scope="col"{_class(column)}>'
        f'<button type="button">{escape(column.title)}</button></th>'
        for column in columns
    )
    rows = []
    for index, run in enumerate(compared.group.runs):
        ranked = index < len(compared.group.ranked)
        kind = "best" if ranked and index == 0 else "" if ranked else "unranked"
        cells = "".join(_cell(column, run) for column in columns)
        rows.append(f'<tr class="{kind}" title="{escape(run.id)}">{cells}</tr>')
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(column: Column, run: ComparedRun) -> str:
    value = escape(_sort_key(column.value(run)))
    return f'<td{_class(column)} data-value="{value}">{escape(column.text(run))}</td>'


def _class(column: Column) -> str:
    name = "number" if column.is_number else "cause" if column.title == STATUS else ""
    return f' class="{name}"' if name else ""


def _sort_key(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if is_number(value) else show_setting(value)


def _importance(compared: ComparedGroup) -> str:
    found = compared.importance
    if found.shares:
        return ""  # there is a figure
    return f'<p class="soft">Importance of settings: {escape(found.note)}.</p>'


def _pair_section(comparison: Comparison, pictures: Sequence[Picture]) -> str:
    pair = comparison.pair
    if pair is None:
        return ""
    label_a, label_b = comparison.labels[pair.a.id], comparison.labels[pair.b.id]
    warning = f"<p><b>{escape(pair.warning)}.</b></p>" if pair.warning else ""
    return (
        f"<section><h2>{escape(label_a)} against {escape(label_b)}</h2>"
        f"<p>{escape(pair_line(pair, label_a, label_b))}.</p>{warning}"
        f"{''.join(picture.html() for picture in pictures)}</section>"
    )


def _reading(comparison: Comparison) -> str:
    return f"""<section><h2>How to read this</h2>
<p>{escape(comparison.metric)} and the other metrics are those of each run's best epoch, by its
train.score, whose checkpoint is kept. Time is from start to end of the run; rows/s
is the median over epochs.</p>
<p>Brackets behind the metric are 95&nbsp;% intervals of the mean r over stretches of the validation
TRs, which the run was selected on: how far it would move with other TRs of such films, for these
subjects and voxels. All runs share the TRs: whether two intervals overlap says little about which
run is better. The paired test says more: it measures how long the errors of the difference last,
and asks how often chance alone would make a mean difference as large as the one observed. r is
taken scan by scan, then over a subject's scans, then over subjects.</p>
<p>Of many runs, the best is better than it will be on new data: it was chosen by the TRs that it
is judged on.</p></section>"""
