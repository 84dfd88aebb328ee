"""Figure of the partition: how much of the explained variance each part of the stimulus carries.

Shapes: V units of a subject.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from giblet_ray.evaluation.drawing import BARS, PALETTE, finish

_REFITTED = ("subsets", "retrained")
"""Where shares are unique or shared."""

Shares = Mapping[tuple[str, ...], NDArray[np.float64]]
"""R2 that each set of parts explains and no other part does, (V,); see
:func:`giblet_ray.evaluation.partition.unique_and_shared`."""


def partition_figure(shares: Mapping[str, Shares], how: str) -> Figure:
    """Draw the mean share of each set of parts, and its spread over units.

    Parameters
    ----------
    shares : mapping of str to Shares
        By subject.
    how : str
        How they were found: see :class:`giblet_ray.judge.evaluation.Partition`.
    """
    sets = list(next(iter(shares.values())))
    values = [np.concatenate([of[one] for of in shares.values()]) for one in sets]
    values = [of[np.isfinite(of)] for of in values]
    figure = Figure(figsize=(10, 1.2 + 0.45 * len(sets)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(sets))
    spread = np.array([np.percentile(of, [5, 95]) for of in values])
    means = [float(of.mean()) for of in values]
    axes.hlines(rows, spread[:, 0], spread[:, 1], color=BARS, linewidth=9)
    axes.plot(means, rows, "o", color=PALETTE[0], markersize=6)
    for row, mean in zip(rows, means, strict=True):
        axes.annotate(f"{mean:+.4f}", (1.01, row), xycoords=("axes fraction", "data"), va="center",
                      fontsize=9)  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(rows, [in_words(one, how) for one in sets])
    axes.invert_yaxis()
    axes.set(
        xlabel="R2 on test TRs", title="mean over units and subjects (dot), 5 to 95 % of units"
    )
    finish(axes)
    return figure


def in_words(parts: tuple[str, ...], how: str) -> str:
    """Return what a set of parts is called: of refits, text alone, or audio + text, shared."""
    if how not in _REFITTED:
        return " + ".join(parts)
    return f"{parts[0]} alone" if len(parts) == 1 else f"{' + '.join(parts)}, shared"
