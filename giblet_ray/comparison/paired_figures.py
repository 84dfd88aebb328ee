"""Figures of paired tests: two runs voxel by voxel, and the best few against one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from giblet_ray.comparison.figures import OTHERS, PALETTE, plain
from giblet_ray.comparison.result import Pair
from giblet_ray.evaluation.paired import PairedTest

_MANY_VOXELS = 3000
_BEST, _SECOND = PALETTE[0], PALETTE[1]


def paired_difference(pair: Pair, label_a: str, label_b: str) -> Figure:
    """Draw r of each voxel under both runs, the differences, and their mean beside chance.

    Parameters
    ----------
    pair : Pair
        Runs a and b.
    label_a, label_b : str
        What they are called.
    """
    label_a, label_b = plain(label_a), plain(label_b)
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    scatter, histogram, null = figure.subplots(1, 3)
    test = pair.test
    scored = np.isfinite(pair.pearson_a_V)
    r_a, r_b = pair.pearson_a_V[scored], pair.pearson_b_V[scored]
    _scatter(figure, scatter, r_a, r_b)
    scatter.set(xlabel=f"r of {label_b}", ylabel=f"r of {label_a}")
    scatter.set_title(f"{(r_a > r_b).mean():.0%} of {len(r_a):,} voxels\nbetter under {label_a}")

    difference_V = r_a - r_b
    histogram.hist(difference_V, bins=min(60, max(10, len(r_a) // 5)), color="#9ec5e8")
    histogram.axvline(0, color="black", linewidth=0.8)
    histogram.axvline(test.difference, color=_BEST, linewidth=1.8)
    histogram.set(xlabel="difference in r, voxel by voxel", ylabel="voxels")
    histogram.set_title(f"mean difference {test.difference:+.4f}")
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True))

    # Of one error, chance's t has long tails: a few far ones would leave no room for the others.
    limit = max(np.percentile(np.abs(test.null_P), 99), 1.2 * abs(test.difference), 1e-6)
    null.hist(test.null_P, bins=np.linspace(-limit, limit, 61).tolist(), color=OTHERS)
    for sign in (1, -1):
        style = "-" if sign == 1 else "--"
        null.axvline(sign * test.difference, color=_SECOND, linewidth=1.8, linestyle=style)
    null.set(xlabel="mean difference by chance", ylabel=f"of {len(test.null_P):,} rotations")
    null.set_title(f"p = {show_p(test.p)}, {test.n_trs:,} TRs")
    null.yaxis.set_major_locator(MaxNLocator(integer=True))
    null.xaxis.set_major_locator(MaxNLocator(5))
    for axes in (scatter, histogram, null):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def difference_matrix(labels: Sequence[str], tests: Mapping[tuple[int, int], PairedTest]) -> Figure:
    """Draw the paired difference of each two runs, row minus column, with its family-wise p.

    Parameters
    ----------
    labels : sequence of str
        What the runs are called, best first.
    tests : mapping of (int, int) to PairedTest
        For each two runs i < j, run i against run j.
    """
    n = len(labels)
    values = np.full((n, n), np.nan)
    for (row, column), test in tests.items():
        values[row, column], values[column, row] = test.difference, -test.difference
    limit = max(np.nanmax(np.abs(values)), 1e-6)
    figure = Figure(figsize=(1.25 * n + 3.2, 0.8 * n + 2.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), test in tests.items():
        for row, column, sign in ((i, j, 1), (j, i, -1)):
            shade = abs(values[row, column]) / limit
            axes.text(
                column,
                row,
                f"{sign * test.difference:+.4f}\np = {show_p(test.family_p)}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shade > 0.6 else "black",
                fontweight="bold" if test.family_p < 0.05 else "normal",
            )
    texts = list(map(plain, labels))
    axes.set_xticks(range(n), texts, rotation=25, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), texts)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="difference in mean r, row - column")
    return figure


def show_p(p: float) -> str:
    """Return a p value with the digits that it has: ``0.031``, ``0.0005``."""
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def _scatter(figure: Figure, axes: Axes, r_a: np.ndarray, r_b: np.ndarray) -> None:
    low, high = min(r_a.min(), r_b.min()), max(r_a.max(), r_b.max())
    pad = 0.04 * (high - low) + 1e-3
    if len(r_a) > _MANY_VOXELS:
        cells = axes.hexbin(r_b, r_a, gridsize=60, norm=LogNorm(), cmap="Blues", linewidths=0.1)
        figure.colorbar(cells, ax=axes, label="voxels")
    else:
        axes.scatter(r_b, r_a, s=12, color=_BEST, alpha=0.55, linewidth=0)
    axes.plot([low, high], [low, high], color="black", linewidth=0.9)
    axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
