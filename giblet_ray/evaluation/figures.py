"""Figures of a run: its learning curves, and how well each voxel is predicted.

Figures are made without pyplot, so that no window, backend or current figure is involved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from giblet_ray.errors import InputError
from giblet_ray.evaluation.drawing import BARS, PALETTE, bin_edges, finish
from giblet_ray.evaluation.score import VAL_PEARSON

TRAIN_COLOR, VALIDATION_COLOR = "#7a7a7a", PALETTE[0]


def learning_curves(history: Sequence[Mapping[str, Any]], *, chosen: int | None = None) -> Figure:
    """Draw the loss of training and validation TRs, and the validation r, over epochs.

    Parameters
    ----------
    history : sequence of mapping
        One per epoch: "epoch", and where they were measured "train_loss", "val_loss" and
        "val_pearson_mean" (mean r over voxels). A value may be missing in some epochs, or in all.
    chosen : int, optional
        The epoch that was chosen; drawn as a dotted line.

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
    pearson_axes.set(title="Correlation", ylabel="Pearson r over TRs, mean of units")
    bottom, top = pearson_axes.get_ylim()
    pearson_axes.set_ylim(min(bottom, 0), max(top, 0))
    for axes in (loss_axes, pearson_axes):
        axes.set(xlabel="epoch", xlim=(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        finish(axes)
        if chosen is not None:
            axes.axvline(chosen, color="black", linestyle=":", linewidth=1, label="chosen epoch")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    return figure


def voxel_histogram(pearson_V: ArrayLike, mean: float | None = None) -> Figure:
    """Draw how many voxels are predicted how well, with mean and median.

    No high percentile: without that of chance it says nothing.

    Parameters
    ----------
    pearson_V : array-like
        (V,) Pearson r of each voxel over validation TRs; NaN for voxels that were not scored.
    mean : float, optional
        The mean r, which is over voxels, then over subjects, where each has voxels of its own
        (default: over V).

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
    axes.hist(pearson, bins=bin_edges(pearson).tolist(), color=BARS)
    axes.axvline(0, color="black", linewidth=0.8)
    for name, value, linestyle in (
        ("mean", pearson.mean() if mean is None else mean, "-"),
        ("median", np.median(pearson), "--"),
    ):
        axes.axvline(
            value, color=VALIDATION_COLOR, linestyle=linestyle, label=f"{name}, {value:.3f}"
        )
    axes.set(
        title=f"Validation correlation of {len(pearson):,} voxels",
        xlabel="Pearson r over validation TRs (selected on)",
        ylabel="voxels",
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def epoch_curves(history: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return what :func:`learning_curves` draws of the metrics of every epoch."""
    return [
        {
            "epoch": metrics["epoch"],
            "train_loss": metrics.get("train/loss"),
            "val_loss": metrics.get("val/loss"),
            "val_pearson_mean": metrics.get(VAL_PEARSON),
        }
        for metrics in history
    ]


def _curve(
    axes: Axes, history: Sequence[Mapping[str, Any]], key: str, label: str, color: str
) -> None:
    """Draw one quantity over the epochs that have it; nothing where none does."""
    points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)
