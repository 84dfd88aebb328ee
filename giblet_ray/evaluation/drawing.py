"""What figures share: colours, names, axes."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

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


def bin_edges(values: NDArray, n_units: float = math.inf) -> NDArray:
    """Return edges of bins of Pearson r, all of one width and one at 0: figures can be compared.

    Parameters
    ----------
    values : ndarray
        All that are to lie in a bin.
    n_units : float
        Units in a histogram: few want wide bins (default: the narrowest).
    """
    most = max(8.0, 2 * math.sqrt(n_units))
    width = BIN_WIDTH * max(1, math.ceil(np.ptp(values) / BIN_WIDTH / most))
    first, last = math.floor(values.min() / width), math.floor(values.max() / width) + 1
    edges = width * np.arange(first, last + 1)
    edges[0] = min(edges[0], values.min())  # the product may round to just past it
    return edges


def finish(axes: Axes) -> None:
    """Leave what is needed to read values: two axes and faint lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
