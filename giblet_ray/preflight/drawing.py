"""Curves and timelines in a terminal's characters."""

from __future__ import annotations

from collections.abc import Sequence

from giblet_ray.dataset.splits import SETS, Split

_LEVELS = "▁▂▃▄▅▆▇█"
_MARKS = {"train": "━", "val": "▒", "test": "█"}
LEGEND = "━ training, ▒ validation, █ test, · gap"


def curve(values: Sequence[float]) -> str:
    """Draw positive numbers as a row of blocks, the largest full."""
    top = max(values)
    return "".join(_LEVELS[round(value / top * (len(_LEVELS) - 1))] for value in values)


def timeline(split: Split, stimulus: str, n_trs: int, width: int) -> str:
    """Draw what the TRs of a stimulus are for.

    A character stands for n_trs / width TRs: test if any of them is, else validation if any is,
    else training.
    """
    width = min(width, n_trs)
    cells = ["·"] * width
    for name in SETS:
        for span in split.spans(name):
            if span.stimulus == stimulus:
                first, last = span.start * width // n_trs, (span.stop - 1) * width // n_trs
                cells[first : last + 1] = [_MARKS[name]] * (last + 1 - first)
    return "".join(cells)
