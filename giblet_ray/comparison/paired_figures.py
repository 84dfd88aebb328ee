"""Figure of paired tests: the best few runs against one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from giblet_ray.evaluation.drawing import plain
from giblet_ray.evaluation.paired import PairedTest
from giblet_ray.evaluation.paired_figure import show_p


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
