"""Two models on the same held-out TRs, unit by unit, and their paired difference beside chance.

Shapes: V units.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from giblet_ray.evaluation.drawing import BARS, OTHERS, PALETTE, plain
from giblet_ray.evaluation.paired import PairedTest

_MANY = 3000
_BEST, _SECOND = PALETTE[0], PALETTE[1]


def paired_difference(
    r_a_V: NDArray, r_b_V: NDArray, test: PairedTest, label_a: str, label_b: str
) -> Figure:
    """Draw r of each unit under both models, the differences, and their mean beside chance.

    Parameters
    ----------
    r_a_V, r_b_V : ndarray
        (V,) r under models a and b, NaN where not scored.
    test : PairedTest
        a minus b; its difference is the line, which is not the mean over V where each subject has
        units of its own.
    label_a, label_b : str
        What they are called.
    """
    label_a, label_b = plain(label_a), plain(label_b)
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    scatter, histogram, null = figure.subplots(1, 3)
    scored = np.isfinite(r_a_V) & np.isfinite(r_b_V)
    r_a, r_b = r_a_V[scored], r_b_V[scored]
    _scatter(figure, scatter, r_a, r_b)
    scatter.set(xlabel=f"r of {label_b}", ylabel=f"r of {label_a}")
    scatter.set_title(f"{(r_a > r_b).mean():.0%} of {len(r_a):,} units\nbetter under {label_a}")

    difference_V = r_a - r_b
    histogram.hist(difference_V, bins=min(60, max(10, len(r_a) // 5)), color=BARS)
    histogram.axvline(0, color="black", linewidth=0.8)
    histogram.axvline(test.difference, color=_BEST, linewidth=1.8)
    histogram.set(xlabel="difference in r, unit by unit", ylabel="units")
    histogram.set_title(f"mean difference {test.difference:+.4f}")
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True))

    # Of one error, chance's t has long tails: a few far ones would leave no room for the others.
    ends = [abs(test.low), abs(test.high), 1.2 * abs(test.difference), 1e-6]
    limit = max(np.percentile(np.abs(test.null_P), 99), *ends)
    null.hist(test.null_P, bins=np.linspace(-limit, limit, 61).tolist(), color=OTHERS)
    for sign in (1, -1):
        style = "-" if sign == 1 else "--"
        null.axvline(sign * test.difference, color=_SECOND, linewidth=1.8, linestyle=style)
    top = null.get_ylim()[1]
    interval = {"color": _SECOND, "linewidth": 6, "alpha": 0.5}
    null.hlines(1.06 * top, test.low, test.high, **interval, label="its 95 % interval")
    null.set_ylim(0, 1.25 * top)
    null.legend(frameon=False, fontsize="small", loc="upper left")
    null.set(xlabel="mean difference by chance", ylabel=f"of {len(test.null_P):,} rotations")
    null.set_title(f"p = {show_p(test.p)}, {test.n_trs:,} TRs")
    null.yaxis.set_major_locator(MaxNLocator(integer=True))
    null.xaxis.set_major_locator(MaxNLocator(5))
    for axes in (scatter, histogram, null):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def show_p(p: float) -> str:
    """Return a p value with the digits that it has: ``0.031``, ``0.0005``."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def _scatter(figure: Figure, axes: Axes, r_a: np.ndarray, r_b: np.ndarray) -> None:
    low, high = min(r_a.min(), r_b.min()), max(r_a.max(), r_b.max())
    pad = 0.04 * (high - low) + 1e-3
    if len(r_a) > _MANY:
        cells = axes.hexbin(r_b, r_a, gridsize=60, norm=LogNorm(), cmap="Blues", linewidths=0.1)
        figure.colorbar(cells, ax=axes, label="units")
    else:
        axes.scatter(r_b, r_a, s=12, color=_BEST, alpha=0.55, linewidth=0)
    axes.plot([low, high], [low, high], color="black", linewidth=0.9)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
