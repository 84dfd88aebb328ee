"""What figures share: colours, names, axes."""

from __future__ import annotations

from matplotlib.axes import Axes

PALETTE = ("#0b5fa5", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by readers of all colour visions (Okabe & Ito)."""
OTHERS = "#b8bec6"
BARS = "#9ec5e8"
BIN_WIDTH = 0.02
"""Of Pearson r."""
_LONGEST = 28


def plain(text: str) -> str:
    """Return a name as a figure shows it: whole if it is not too long, and never as a formula."""
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    # A legend leaves out what begins with an underscore.
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def finish(axes: Axes) -> None:
    """Leave what is needed to read values: two axes and faint lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
