"""Figures along the film: which of its TRs train, choose and judge, and units' time courses.

Shapes: T test TRs of a scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from giblet_ray.dataset.splits import IN_WORDS, SETS, SetName, Split
from giblet_ray.evaluation.drawing import OTHERS, PALETTE, finish, plain
from giblet_ray.judge.courses import Course

MOST_LINES = 40
"""That the figure of the split has room for."""
MOST_TRS = 400
"""Of a time course."""
_STYLES: Mapping[SetName, tuple[str, str]] = {
    "train": (PALETTE[5], ""),
    "val": (PALETTE[4], "////"),
    "test": (PALETTE[0], "...."),
}
"""Colour and hatching of each set: told apart in grey as well."""


def split_figure(
    splits: Mapping[str, Split], n_trs: Mapping[str, int], tr_seconds: float
) -> Figure:
    """Draw the sets on the time axis of each film; of repeats, each set on a line of its own.

    Parameters
    ----------
    splits : mapping of str to Split
        The sets of each fold, by what it is called; one split has no name.
    n_trs : mapping of str to int
        TRs of each film.
    tr_seconds : float
        Duration of a TR (s).
    """
    minutes = tr_seconds / 60
    lines = [
        (film, ", ".join(filter(None, (plain(film), fold, repeats))), split, sets)
        for film in n_trs
        for fold, split in splits.items()
        for repeats, sets in _lines(split)
    ][:MOST_LINES]
    figure = Figure(figsize=(10, 1.5 + 0.4 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for row, (film, _, split, sets) in enumerate(lines):
        axes.barh(row, n_trs[film] * minutes, 0.6, color="white", edgecolor="#555555")
        for name in sets:
            spans = [each for each in split.spans(name) if each.stimulus == film]
            color, hatch = _STYLES[name]
            axes.broken_barh(
                [(span.start * minutes, len(span) * minutes) for span in spans],
                (row - 0.3, 0.6), facecolor=color, hatch=hatch, edgecolor="white", linewidth=0,
            )  # fmt: skip
    axes.set_yticks(range(len(lines)), [label for _, label, _, _ in lines])
    axes.invert_yaxis()
    axes.set_xlabel("BOLD, minutes after the onset of the film")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles = [
        Patch(facecolor=_STYLES[name][0], hatch=_STYLES[name][1], edgecolor="white",
              label=IN_WORDS[name])
        for name in SETS
    ]  # fmt: skip
    handles.append(Patch(facecolor="white", edgecolor="#555555", label="gap: in no set"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    return figure


def courses_figure(courses: Sequence[Course], names: Sequence[str], tr_seconds: float) -> Figure:
    """Draw what is predicted of each unit over its BOLD.

    Parameters
    ----------
    courses : sequence of Course
        Of the best, the median and the worst unit.
    names : sequence of str
        What the units are called.
    tr_seconds : float
        Duration of a TR (s).
    """
    figure = Figure(figsize=(10, 2.2 * len(courses) + 0.5), layout="constrained")
    panels = figure.subplots(len(courses), 1, squeeze=False)[:, 0]
    for axes, course, name in zip(panels, courses, names, strict=True):
        shown = slice(0, MOST_TRS)
        minutes_T = course.tr_T[shown] * tr_seconds / 60
        for values_T, color, width, label in (
            (course.bold_T, OTHERS, 1.4, "BOLD"),
            (course.prediction_T, PALETTE[0], 1.6, "prediction"),
        ):
            axes.plot(*_broken(course.tr_T[shown], minutes_T, values_T[shown]), color=color,
                      linewidth=width, label=label)  # fmt: skip
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(f"{course.which}: {name}, r = {course.pearson:.3f}", loc="left", fontsize=10)
        axes.set_ylabel("z-score")
        finish(axes)
    panels[-1].set_xlabel("BOLD, minutes after the onset of the film")
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _lines(split: Split) -> list[tuple[str, Sequence[SetName]]]:
    """Return what a split has a line for, and the sets on it: all of them, or each of repeats."""
    if split.repeats is None:
        return [("", SETS)]
    return [
        (f"repeat {', '.join(map(str, sorted(split.repeats[name])))}", (name,)) for name in SETS
    ]


def _broken(tr_T: NDArray, x_T: NDArray, y_T: NDArray) -> tuple[NDArray, NDArray]:
    """Return a line with a break where TRs do not follow one another."""
    cuts = np.flatnonzero(np.diff(tr_T) > 1) + 1
    return np.insert(x_T.astype(float), cuts, np.nan), np.insert(y_T.astype(float), cuts, np.nan)
