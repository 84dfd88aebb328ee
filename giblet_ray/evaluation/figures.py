"""Figures of a run: its learning curves, and how well each voxel is predicted.

Figures are made without pyplot, so that no window, backend or current figure is involved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from giblet_ray.errors import InputError
from giblet_ray.evaluation.drawing import BARS, BIN_WIDTH, PALETTE, finish

DPI = 150
TRAIN_COLOR, VALIDATION_COLOR, CEILING_COLOR = "#7a7a7a", PALETTE[0], PALETTE[1]


def learning_curves(
    history: Sequence[Mapping[str, Any]],
    path: str | Path | None = None,
    *,
    ceiling_mean: float | None = None,
) -> Figure:
    """Draw the loss of training and validation TRs, and the validation r, over epochs.

    Parameters
    ----------
    history : sequence of mapping
        One per epoch: "epoch", and where they were measured "train_loss", "val_loss" and
        "val_pearson_mean" (mean r over voxels). A value may be missing in some epochs, or in all.
    path : str or Path, optional
        File to save to, of any format that matplotlib writes (.png, .svg, .pdf).
    ceiling_mean : float, optional
        Mean noise ceiling over voxels, as r; drawn as a line.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        For an empty history.
    """
    if not history:
        raise InputError("history: found no epoch, learning curves need one")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss_axes, pearson_axes = figure.subplots(1, 2)
    _curve(loss_axes, history, "train_loss", "training", TRAIN_COLOR)
    _curve(loss_axes, history, "val_loss", "validation", VALIDATION_COLOR)
    loss_axes.set(title="Loss", ylabel="loss (BOLD in z-scores)")
    _curve(pearson_axes, history, "val_pearson_mean", "validation", VALIDATION_COLOR)
    pearson_axes.set(title="Correlation", ylabel="Pearson r over TRs, mean of voxels")
    if ceiling_mean is not None:
        pearson_axes.axhline(
            ceiling_mean,
            color=CEILING_COLOR,
            linestyle="--",
            label=f"noise ceiling, {ceiling_mean:.3f}",
        )
    bottom, top = pearson_axes.get_ylim()
    pearson_axes.set_ylim(min(bottom, 0), max(top, 1.08 * (ceiling_mean or 0)))
    for axes in (loss_axes, pearson_axes):
        axes.set(xlabel="epoch", xlim=(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        finish(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return _saved(figure, path)


def voxel_histogram(
    pearson_V: ArrayLike,
    path: str | Path | None = None,
    *,
    ceiling_mean: float | None = None,
) -> Figure:
    """Draw how many voxels are predicted how well, with mean, median and 95th percentile.

    Parameters
    ----------
    pearson_V : array-like
        (V,) Pearson r of each voxel over validation TRs; NaN for voxels that were not scored.
    path : str or Path, optional
        File to save to, of any format that matplotlib writes.
    ceiling_mean : float, optional
        Mean noise ceiling over voxels, as r; drawn as a line.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        Where no voxel was scored.
    """
    pearson_V = np.asarray(pearson_V, dtype=np.float64)
    pearson = pearson_V[~np.isnan(pearson_V)]
    if not len(pearson):
        raise InputError(f"pearson_V: none of {len(pearson_V)} voxels was scored, one must be")
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    # Bins of one width, with an edge at 0, make the histograms of different runs comparable.
    first, last = np.floor(pearson.min() / BIN_WIDTH), np.floor(pearson.max() / BIN_WIDTH) + 1
    edges = BIN_WIDTH * np.arange(first, last + 1)
    edges[0] = min(edges[0], pearson.min())  # the product above may round to just past it
    axes.hist(pearson, bins=edges.tolist(), color=BARS)
    axes.axvline(0, color="black", linewidth=0.8)
    marks = [
        ("mean", pearson.mean(), "-"),
        ("median", np.median(pearson), "--"),
        ("95th percentile", np.percentile(pearson, 95), ":"),
    ]
    for name, value, linestyle in marks:
        axes.axvline(
            value, color=VALIDATION_COLOR, linestyle=linestyle, label=f"{name}, {value:.3f}"
        )
    if ceiling_mean is not None:
        axes.axvline(
            ceiling_mean,
            color=CEILING_COLOR,
            linestyle="--",
            label=f"mean noise ceiling, {ceiling_mean:.3f}",
        )
    axes.set(
        title=f"Held-out correlation of {len(pearson):,} voxels",
        xlabel="Pearson r over validation TRs (selected on)",
        ylabel="voxels",
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return _saved(figure, path)


def units_beside_chance(
    pearson_V: NDArray, null_VP: NDArray, ceiling_V: NDArray | None, name: str
) -> Figure:
    """Draw r of all units on test TRs beside what chance gives, and from best to worst.

    Parameters
    ----------
    pearson_V : ndarray
        (V,) r of each unit, of all subjects one after another; NaN where not scored.
    null_VP : ndarray
        (U, P) r under permutation, see :class:`giblet_ray.evaluation.null.Null`.
    ceiling_V : ndarray or None
        (V,) noise ceiling, as r.
    name : str
        Of the run.
    """
    scored = np.isfinite(pearson_V)
    pearson, chance = pearson_V[scored], null_VP[np.isfinite(null_VP)]
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    histogram, ranked = figure.subplots(1, 2)
    low = min(float(pearson.min()), float(np.percentile(chance, 0.1)))
    edges = np.arange(np.floor(low / BIN_WIDTH), np.ceil(pearson.max() / BIN_WIDTH) + 1) * BIN_WIDTH
    shares = (pearson, BARS, f"data, mean {pearson.mean():.3f}"), (
        chance, CEILING_COLOR, f"chance (BOLD shifted), 95 % below {np.percentile(chance, 95):.3f}",
    )  # fmt: skip
    for values, color, label in shares:
        counts, _ = np.histogram(values, edges)
        percents = 100 * counts / len(values)
        histogram.stairs(percents, edges, fill=True, color=color, alpha=0.6, label=label)
    histogram.set(title=f"{name}: units on test TRs", xlabel="Pearson r", ylabel="% of units")
    order = np.argsort(pearson)[::-1]
    percent = 100 * (np.arange(len(pearson)) + 1) / len(pearson)
    ranked.plot(percent, pearson[order], color=BARS, label="r")
    if ceiling_V is not None:
        of_order = ceiling_V[scored][order]
        ranked.plot(percent, of_order, ".", color=CEILING_COLOR, markersize=3, label="its ceiling")
    ranked.axhline(0, color="black", linewidth=0.8)
    ranked.set(title="from best to worst", xlabel="% of units", ylabel="Pearson r on test TRs")
    for axes in (histogram, ranked):
        finish(axes)
        axes.legend(frameon=False, fontsize="small")
    return figure


def _curve(
    axes: Axes, history: Sequence[Mapping[str, Any]], key: str, label: str, color: str
) -> None:
    """Draw one quantity over the epochs that have it; nothing where none does."""
    points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        figure.savefig(path, dpi=DPI)
    return figure
