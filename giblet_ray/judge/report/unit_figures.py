"""Figures of units: how well each is predicted, beside chance and beside its ceiling.

Figures are of fixed size, however many units there are: histograms, densities and quantiles.

Shapes: V units of a subject, P permutations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from giblet_ray.evaluation.block_bootstrap import MeanInterval
from giblet_ray.evaluation.drawing import BARS, OTHERS, PALETTE, bin_edges, finish, plain
from giblet_ray.evaluation.null import Null

DENSITY = "viridis_r"
"""From pale to dark: it prints, and readers of all colour visions can order it."""
_QUANTILES = 501
_GRID = 45
"""Cells along a density, at most; fewer where units are few."""


def units_figure(
    pearson_V: Mapping[str, NDArray], ceiling_V: Mapping[str, NDArray] | None = None
) -> Figure:
    """Draw how many units are predicted how well, and r from the best unit to the worst.

    Parameters
    ----------
    pearson_V : mapping of str to ndarray
        (V,) r of each subject's units; NaN where not scored.
    ceiling_V : mapping of str to ndarray, optional
        (V,) noise ceiling, as r.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    histogram, ranked = figure.subplots(1, 2)
    scored = {name: values[np.isfinite(values)] for name, values in pearson_V.items()}
    edges = bin_edges(np.concatenate(list(scored.values())), min(map(len, scored.values())))
    shares = np.linspace(0, 1, _QUANTILES)
    for index, (name, values) in enumerate(scored.items()):
        few = len(scored) <= len(PALETTE)
        color = PALETTE[index] if few else OTHERS
        label = plain(f"subject {name}, mean {values.mean():.3f}") if few else None
        histogram.stairs(100 * np.histogram(values, edges)[0] / len(values), edges, color=color,
                         linewidth=1.6, label=label)  # fmt: skip
        ranked.plot(100 * shares, np.quantile(values, 1 - shares), color=color, linewidth=1.6)
        if ceiling_V is not None:
            ceiling = ceiling_V[name][np.isfinite(ceiling_V[name])]
            ranked.plot(100 * shares, np.quantile(ceiling, 1 - shares), color=color, linestyle="--",
                        linewidth=1.1)  # fmt: skip
    histogram.axvline(0, color="black", linewidth=0.8)
    ranked.axhline(0, color="black", linewidth=0.8)
    if ceiling_V is not None:
        ranked.plot([], [], color="black", linestyle="--", linewidth=1.1, label="noise ceiling")
        ranked.plot([], [], color="black", linewidth=1.6, label="r")
    histogram.set(xlabel="Pearson r on test TRs", ylabel="% of the subject's units")
    ranked.set(xlabel="% of the subject's units, from the best", ylabel="Pearson r on test TRs")
    _end(histogram, ranked)
    return figure


def chance_figure(pearson_V: NDArray, null: Null, interval: MeanInterval) -> Figure:
    """Draw r of units and its mean beside what shifted BOLD gives.

    Parameters
    ----------
    pearson_V : ndarray
        r of all subjects' units, one after another; NaN where not scored.
    null : Null
        What chance gives, mean over subjects.
    interval : MeanInterval
        Of the mean.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    of_units, of_mean = figure.subplots(1, 2)
    data = pearson_V[np.isfinite(pearson_V)]
    chance_VP = null.null_VP[np.isfinite(null.pearson_V)]
    chance = chance_VP.ravel()
    edges = bin_edges(np.concatenate([data, [chance.min(), chance.max()]]), len(data))
    for values, color, label in (
        (chance, OTHERS, f"by chance, 95 % below {np.percentile(chance, 95):.3f}"),
        (data, PALETTE[0], f"data, median {np.median(data):.3f}"),
    ):
        counts = 100 * np.histogram(values, edges)[0] / len(values)
        filled = color == OTHERS
        of_units.stairs(counts, edges, fill=filled, color=color, linewidth=1.8, label=label)
    of_units.set(xlabel="Pearson r of a unit", ylabel="% of units")
    means_P = null.means
    of_mean.hist(means_P, bins=min(40, max(10, len(means_P) // 10)), color=OTHERS,
                 label=f"by chance, {len(means_P):,} shifts")  # fmt: skip
    top = of_mean.get_ylim()[1]
    of_mean.axvline(interval.value, color=PALETTE[0], linewidth=1.8,
                    label=f"data, {interval.value:.3f}")  # fmt: skip
    of_mean.hlines(1.06 * top, interval.low, interval.high, color=PALETTE[0], linewidth=6,
                   alpha=0.5, label="its 95 % interval")  # fmt: skip
    of_mean.set_ylim(0, 1.15 * top)
    of_mean.yaxis.set_major_locator(MaxNLocator(integer=True))
    of_mean.set(xlabel="mean r over units and subjects", ylabel="shifts of BOLD")
    _end(of_units, of_mean)
    return figure


def ceiling_figure(pearson_V: NDArray, ceiling_V: NDArray, normalised_V: NDArray) -> Figure:
    """Draw the density of units by ceiling and r, and how much of its ceiling each reaches.

    Parameters
    ----------
    pearson_V, ceiling_V, normalised_V : ndarray
        r, ceiling and r / ceiling of all subjects' units, one after another; NaN where there is
        none.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    density, shares = figure.subplots(1, 2)
    _density(figure, density, ceiling_V, pearson_V, "noise ceiling, as r")
    share = 100 * normalised_V[np.isfinite(normalised_V)]
    low, high = np.percentile(share, [0.5, 99.5])
    shares.hist(np.clip(share, low, high), bins=40, color=BARS, range=(low, high),
                weights=np.full(len(share), 100 / len(share)))  # fmt: skip
    shares.axvline(float(share.mean()), color=PALETTE[0], label=f"mean {share.mean():.0f} %")
    shares.axvline(100, color="black", linestyle="--", linewidth=1, label="the ceiling")
    shares.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    shares.set(xlabel="r / ceiling", ylabel="% of units")
    _end(density, shares)
    return figure


def shared_ceiling_figure(pearson_V: NDArray, low_V: NDArray, high_V: NDArray) -> Figure:
    """Draw the density of units by r and by either bound of what subjects share.

    Parameters
    ----------
    pearson_V, low_V, high_V : ndarray
        r and bounds of all subjects' units, one after another; NaN where there is none.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, bound_V, name in zip(panels, (low_V, high_V), ("lower", "upper"), strict=True):
        _density(figure, axes, bound_V, pearson_V, f"shared ceiling, {name} bound, as r")
    _end(*panels)
    return figure


def _density(
    figure: Figure, axes: Axes, ceiling_V: NDArray, pearson_V: NDArray, label: str
) -> None:
    both = np.isfinite(pearson_V) & np.isfinite(ceiling_V)
    r, ceiling = pearson_V[both], ceiling_V[both]
    grid = int(np.clip(np.sqrt(len(r)) * 0.8, 12, _GRID))
    ends = [min(0.0, r.min(), ceiling.min()), max(r.max(), ceiling.max())]
    cells = axes.hexbin(
        ceiling, r, gridsize=grid, extent=(*ends, *ends), mincnt=1, norm=PowerNorm(0.5, 0),
        cmap=DENSITY, linewidths=0.2,
    )  # fmt: skip
    ticks = MaxNLocator(integer=True)
    figure.colorbar(cells, ax=axes, label="units in a cell", ticks=ticks, format="%d")
    axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="r = ceiling")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel=label, ylabel="Pearson r on test TRs", aspect="equal")


def _end(*panels: Axes) -> None:
    for axes in panels:
        finish(axes)
        if axes.get_legend_handles_labels()[0] and axes.get_legend() is None:
            axes.legend(fontsize="small", framealpha=0.9, edgecolor="none")
