"""Curves and timelines in a terminal's characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from giblet_ray.dataset.reader import Span

_LEVELS = "▁▂▃▄▅▆▇█"
TRAINING, HELD_OUT, GAP = "━", "█", "·"


def curve(values: Sequence[float]) -> str:
    """Draw positive numbers as a row of blocks, the largest full."""
    top = max(values)
    return "".join(_LEVELS[round(value / top * (len(_LEVELS) - 1))] for value in values)


def timeline(n_trs: int, train: Iterable[Span], val: Iterable[Span], width: int) -> str:
    """Draw which TRs of a stimulus train, judge, or do neither.

    A character stands for n_trs / width TRs: held out if any of them is, else training if any is.
    """
    width = min(width, n_trs)
    cells = [GAP] * width
    for spans, mark in ((train, TRAINING), (val, HELD_OUT)):
        for span in spans:
            first, last = span.start * width // n_trs, (span.stop - 1) * width // n_trs
            cells[first : last + 1] = [mark] * (last + 1 - first)
    return "".join(cells)
