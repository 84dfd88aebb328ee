"""Figures of runs side by side: settings against score, curves and voxels over one another.

Made without pyplot, as all figures of this package are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from giblet_ray.comparison.importance import Importance, is_log_scale, is_scale
from giblet_ray.comparison.runs import ComparedRun, setting_order, short_names, show_setting
from giblet_ray.evaluation.drawing import BARS, OTHERS, PALETTE, bin_edges, finish, plain
from giblet_ray.evaluation.interval import Interval
from giblet_ray.evaluation.score import Score

MAX_SETTINGS = 9
"""Settings that a figure has room for."""
_COLORS = LinearSegmentedColormap.from_list("score", ["#cfe3dc", "#4fb3bf", "#1f6fb2", "#152a63"])
"""From the worst score to the best one, which has the strongest contrast."""
_MAX_TICKS = 7
_TICK_DISTANCE = 0.06
_SPREAD = 0.04
_CROWDED = 36


def parallel_coordinates(runs: Sequence[ComparedRun], names: Sequence[str], metric: str) -> Figure:
    """Draw each run as a line through its settings to its score; the best one is the thickest.

    Parameters
    ----------
    runs : sequence of ComparedRun
        Ranked, best first.
    names : sequence of str
        Dotted names of the settings that differ, the most important first.
    metric : str
        The score, on the last axis.
    """
    names = list(names[:MAX_SETTINGS])
    scores = _scores(runs, metric)
    scales = [_Scale([run.settings.get(name, "") for run in runs]) for name in names]
    scales.append(_Scale(scores, may_be_logarithmic=False))
    heights = np.array([scale.heights for scale in scales])
    # Runs that share a value lie side by side, so that no line hides another.
    heights[:-1] += _SPREAD * (np.linspace(0.5, -0.5, len(runs)) if len(runs) > 1 else 0)
    figure = Figure(figsize=(max(6.4, 1.75 * len(scales) + 0.8), 4.6), layout="constrained")
    axes = figure.subplots()
    colors = _score_colors(scores, metric)
    for index in range(len(runs) - 1, -1, -1):
        best = index == 0
        axes.plot(
            heights[:, index],
            color=colors[index],
            linewidth=3.2 if best else 1.3,
            alpha=1 if best else 0.75,
            marker="o",
            markersize=5 if best else 3,
            zorder=3 if best else 2,
        )
    for column, scale in enumerate(scales):
        axes.axvline(column, color="#555555", linewidth=0.9, zorder=1)
        for height, text in scale.ticks:
            axes.annotate(
                text,
                (column, height),
                xytext=(-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
                zorder=4,
            )
    axes.set_xticks(range(len(scales)), [*short_names(names).values(), metric])
    axes.set(xlim=(-0.55, len(scales) - 0.85), ylim=(-0.06, 1.06))
    axes.tick_params(axis="x", length=0, labelsize=9, pad=8)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines[:].set_visible(False)
    axes.set_title(f"{len(runs)} runs, from their settings to {metric}", pad=12)
    return figure


def score_by_setting(
    runs: Sequence[ComparedRun],
    names: Sequence[str],
    metric: str,
    intervals: Mapping[str, Interval],
    importance: Importance,
) -> Figure:
    """Draw the score against each setting, with its interval where it is known.

    Parameters
    ----------
    runs, names, metric
        As for :func:`parallel_coordinates`.
    intervals : mapping of str to Interval
        By the run's id.
    importance : Importance
        Its shares and intervals stand in the titles.
    """
    names = list(names[:MAX_SETTINGS])
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(4.8, 3.5 * columns), 3.1 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    scores = np.array(_scores(runs, metric))
    done = np.array([run.is_done for run in runs])
    colors = to_rgba_array(_score_colors(scores.tolist(), metric))
    filled = np.where(done[:, None], colors, 1.0)
    known = [(index, intervals[run.id]) for index, run in enumerate(runs) if run.id in intervals]
    short = short_names(names)
    for axes, name in zip(grid.flat, names, strict=False):
        places = np.array(_place(axes, [run.settings.get(name, "") for run in runs]))
        for index, of in known:
            line = {"color": colors[index], "linewidth": 1.1, "alpha": 0.6, "zorder": 2}
            axes.plot([places[index]] * 2, [of.low, of.high], **line)
        # All runs at once: a scatter of each would take a minute of a thousand.
        axes.scatter(places, scores, s=30, facecolors=filled, edgecolors=colors, zorder=3)
        if len(np.unique(places)) < len(runs):
            at = np.unique(places[done])
            means = [scores[done & (places == place)].mean() for place in at]
            mark = {"s": 220, "marker": "_", "color": "black", "linewidth": 1.6}
            axes.scatter(at, means, zorder=4, **mark)
        told = name in importance.shares
        title = f"{short[name]}  (importance {importance.in_words(name)})" if told else short[name]
        axes.set_title(title, fontsize=10)
        finish(axes)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(metric)
    return figure


def importance_bars(importance: Importance) -> Figure:
    """Draw the share of each setting in the variance of the score, with its interval."""
    names = list(importance.shares)[:MAX_SETTINGS]
    short = short_names(list(importance.shares))
    share_S = np.array([importance.shares[name] for name in names])
    ends_S2 = np.array([importance.intervals[name] for name in names])
    figure = Figure(figsize=(8, 1.2 + 0.36 * len(names)), layout="constrained")
    axes = figure.subplots()
    beside = {"xerr": np.abs(ends_S2 - share_S[:, None]).T, "error_kw": {"capsize": 3}}
    axes.barh([plain(short[name]) for name in names], share_S, color=BARS, **beside)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="share of the variance of the score")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def curves_over_epochs(
    runs: Sequence[ComparedRun], labels: Mapping[str, str], metric: str
) -> Figure:
    """Draw the score and the training loss of all runs over epochs, the best ones in colour."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    score = metric if any(metric in run.curves for run in runs) else runs[0].score.name
    for axes, key in zip(panels, (score, "train/loss"), strict=True):
        for index in range(len(runs) - 1, -1, -1):
            points = {e: v for e, v in runs[index].curves.get(key, {}).items() if math.isfinite(v)}
            if points:
                named = index < len(PALETTE)
                axes.plot(
                    *zip(*sorted(points.items()), strict=True),
                    color=PALETTE[index] if named else OTHERS,
                    linewidth=1.8 if named else 0.9,
                    marker="o" if len(points) < 30 else None,
                    markersize=3,
                    zorder=3 if named else 2,
                    label=plain(labels[runs[index].id]) if named else None,
                )
        axes.set(xlabel="epoch", ylabel=key, title=key)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        finish(axes)
    _legend_below(figure, panels[0], len(runs), columns=3)
    return figure


def voxel_histograms(
    scores: Sequence[tuple[str, NDArray[np.float64], float | None]], n_runs: int
) -> Figure:
    """Draw how many voxels each of the best runs predicts how well, over one another.

    Parameters
    ----------
    scores : sequence of (str, ndarray, float or None)
        What to call a run, its (V,) Pearson r, NaN where not scored, and its mean r, which is not
        that over V where each subject has voxels of its own (None where it was not recorded); best
        run first, and no more than the palette has colours.
    n_runs : int
        Runs that there are in all.
    """
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    of_runs = [r_V[np.isfinite(r_V)] for _, r_V, _ in scores]
    edges = bin_edges(np.concatenate(of_runs), max(map(len, of_runs)))
    for index in range(len(scores) - 1, -1, -1):
        label, _, mean = scores[index]
        counts, _ = np.histogram(of_runs[index], edges)
        text = plain(label) if mean is None else f"{plain(label)}, mean {mean:.4f}"
        axes.stairs(counts, edges, color=PALETTE[index], linewidth=1.9, label=text)
        if mean is not None:
            axes.axvline(mean, color=PALETTE[index], linestyle="--", linewidth=1.1)
        if index == 0:
            axes.stairs(counts, edges, color=PALETTE[index], fill=True, alpha=0.1)
    axes.axvline(0, color="black", linewidth=0.8)
    shown = f"{len(scores)} best of {n_runs} runs" if n_runs > len(scores) else f"{n_runs} runs"
    axes.set(
        title=f"Validation correlation of each voxel, {shown}",
        xlabel="Pearson r over validation TRs (selected on)",
        ylabel="voxels",
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes)
    _legend_below(figure, axes, len(scores), columns=2)
    return figure


class _Scale:
    """Heights from 0 to 1 of one setting's values, and where to write which of them."""

    def __init__(self, values: Sequence[Any], may_be_logarithmic: bool = True) -> None:
        distinct = setting_order(values)
        if is_scale(values) and len(distinct) > 1:
            logarithmic = may_be_logarithmic and _is_logarithmic(distinct)
            low, high = min(values), max(values)

            def height(value: Any) -> float:
                if logarithmic:
                    return math.log(value / low) / math.log(high / low)
                return (value - low) / (high - low)

            steps = np.diff([height(value) for value in distinct])
            if len(distinct) > _MAX_TICKS or min(steps) < _TICK_DISTANCE:
                ends = (low, high)
                spread = np.geomspace(*ends, 5) if logarithmic else np.linspace(*ends, 5)
                self.ticks = [(height(value), f"{value:.3g}") for value in spread.tolist()]
            else:
                self.ticks = [(height(value), show_setting(value)) for value in distinct]
        else:
            step = {value: index for index, value in enumerate(distinct)}

            def height(value: Any) -> float:
                return (step[value] + 0.5) / len(distinct)

            self.ticks = [(height(value), plain(show_setting(value))) for value in distinct]
        self.heights = [height(value) for value in values]


def _place(axes: Axes, values: Sequence[Any]) -> list[float]:
    """Return where each value lies on a horizontal axis, which is given its ticks."""
    distinct = setting_order(values)
    if not is_scale(values):
        texts = [plain(show_setting(value)) for value in distinct]
        crowded = sum(map(len, texts)) > _CROWDED
        axes.set_xticks(range(len(distinct)), texts)
        axes.tick_params(axis="x", labelrotation=25 if crowded else 0, labelsize=8)
        axes.set_xlim(-0.5, len(distinct) - 0.5)
        return [float(distinct.index(value)) for value in values]
    if _is_logarithmic(distinct):
        axes.set_xscale("log")
    if len(distinct) <= _MAX_TICKS:
        axes.set_xticks(distinct, list(map(show_setting, distinct)))
        axes.xaxis.set_minor_locator(NullLocator())
    elif axes.get_xscale() == "linear":
        axes.xaxis.set_major_formatter(ScalarFormatter(useMathText=True))
    axes.margins(x=0.1)
    return list(map(float, values))


def _is_logarithmic(distinct: Sequence[Any]) -> bool:
    """Whether numbers are far apart, or grow by one factor as 16, 32, 64 do."""
    if is_log_scale(distinct):
        return True
    if len(distinct) < 3 or distinct[0] <= 0:
        return False
    factors = [b / a for a, b in itertools.pairwise(distinct)]
    return max(factors) - min(factors) < 1e-9 and factors[0] > 1


def _scores(runs: Sequence[ComparedRun], metric: str) -> list[float]:
    return [score for run in runs if (score := run.value(metric)) is not None]


def _score_colors(scores: Sequence[float], metric: str) -> list[Any]:
    """Return a colour for each score."""
    low, high = min(scores), max(scores)
    if low == high:
        return [PALETTE[0]] * len(scores)
    share = (np.array(scores) - low) / (high - low)
    return list(_COLORS(share if Score(metric).higher_is_better else 1 - share))


def _legend_below(figure: Figure, axes: Axes, n_runs: int, columns: int) -> None:
    handles, texts = axes.get_legend_handles_labels()
    handles, texts = handles[::-1], texts[::-1]
    title = f"best {len(PALETTE)} of {n_runs} runs" if n_runs > len(PALETTE) else None
    if handles:
        figure.legend(
            handles, texts, loc="outside lower center", ncols=columns, frameon=False, title=title
        )


def is_better_above(metric: str) -> str:
    """Return which way is better, in words for a caption."""
    return "higher is better" if Score(metric).higher_is_better else "lower is better"
