"""Which settings the score depends on, as far as the runs that were made can tell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_ray.comparison.runs import ComparedRun, by_settings, is_number, setting_order
from giblet_ray.training.config import SEED

MIN_RUNS = 5
"""With fewer, a forest of regression trees has next to nothing to split."""
RESAMPLES = 100
_TREES = 64
_TREES_OF_RESAMPLE = 4
_RUNS_PER_SETTING = 10
_LOG_RANGE = 20.0


@dataclass(frozen=True)
class Importance:
    """What part of the variance of the score goes with each setting."""

    shares: Mapping[str, float]
    """Share of each setting, by dotted name, the largest first; they add up to 1. Empty where it
    cannot be told."""
    n_runs: int
    """Runs that it was told from, those that differ in their seed alone as one."""
    note: str
    """How far it can be trusted, or why there is none."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each share, the ends of its 95 % interval over runs: what others, made alike, would
    say."""

    def in_words(self, name: str) -> str:
        """Return a setting's share and interval: ``75% [60, 88]``."""
        low, high = self.intervals[name]
        return f"{self.shares[name]:.0%} [{100 * low:.0f}, {100 * high:.0f}]"


def setting_importance(
    runs: Sequence[ComparedRun],
    names: Sequence[str],
    metric: str,
    seed: int,
    report: Callable[[float], None] = lambda done: None,
) -> Importance:
    """Tell the importance of settings by functional ANOVA (Hutter et al. 2014).

    A forest of regression trees is fitted to the runs; a setting's share is that of the variance
    over the whole space of settings that goes with it alone. Intervals are of forests that are
    fitted to runs drawn from these, with replacement.

    Parameters
    ----------
    runs : sequence of ComparedRun
        Runs with a score, of one data set and split. The score of a run that was stopped early
        says more about when than about how it was trained: only finished runs count. Where these
        are too few, all runs do, with their scores at the last epoch that each of them reached.
        Those that differ in train.seed alone count as one, with their mean: a seed is chance.
    names : sequence of str
        Dotted names of the settings that differ.
    metric : str
        Name of the score.
    seed : int
        Of the forests.
    report : callable, optional
        Is told the share of the work that is done.
    """
    done, scores, told_from = _what_tells(runs, metric)
    names = [n for n in names if n != SEED and len({_value(run, n) for run in done}) > 1]
    n = len(done)
    if n < MIN_RUNS:
        return Importance({}, n, f"too few runs to tell: {n}, at least {MIN_RUNS} are needed")
    if not names:
        return Importance({}, n, f"no setting differs among the {n} runs")
    if len(set(scores)) == 1:
        return Importance({}, n, f"all {n} runs have the same score")
    places_NS = np.stack([_places([_value(run, name) for run in done]) for name in names], axis=1)
    score_N, random = np.array(scores, float), np.random.default_rng(seed)
    share_S = _shares(places_NS, score_N, _TREES, random)
    drawn = []
    for index in range(RESAMPLES):
        row_N = random.integers(n, size=n)
        drawn.append(_shares(places_NS[row_N], score_N[row_N], _TREES_OF_RESAMPLE, random))
        report((index + 1) / RESAMPLES)
    # Drawn runs are fewer different ones, so that what they say lies to one side, if anything.
    low_S, high_S = np.nanpercentile([*drawn, share_S], [2.5, 97.5], axis=0)
    low_S, high_S = np.minimum(low_S, share_S), np.maximum(high_S, share_S)
    enough = _RUNS_PER_SETTING * len(names)
    note = f"from {told_from}"
    if n < enough:
        note += f": a hint, no finding; {len(names)} settings want {enough} or more"
    order = np.argsort(-share_S, kind="stable")
    return Importance(
        {names[i]: float(share_S[i]) for i in order},
        n,
        note,
        {names[i]: (float(low_S[i]), float(high_S[i])) for i in order},
    )


def is_log_scale(values: Sequence[Any]) -> bool:
    """Whether numbers are so far apart that their logarithms are what should be compared."""
    numbers = [value for value in values if is_number(value)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_RANGE


def is_scale(values: Sequence[Any]) -> bool:
    """Whether a setting's values lie on a scale of numbers: all of them do."""
    return all(map(is_number, values))


def _what_tells(
    runs: Sequence[ComparedRun], metric: str
) -> tuple[list[ComparedRun], list[float], str]:
    """Return runs, one of all that differ in their seed alone, their scores, and both in words."""
    scores = {run: run.value(metric) for run in runs if run.is_done}
    words = f"{len(scores)} finished runs"
    if len(scores) < MIN_RUNS and len(runs) >= MIN_RUNS:
        epoch = min(run.epochs for run in runs)
        scores = {run: run.curves.get(metric, {}).get(epoch) for run in runs}
        scores = {run: r for run, r in scores.items() if r is not None and math.isfinite(r)}
        words = f"{len(scores)} runs by their scores at epoch {epoch}, which all of them reached"
    together = by_settings(scores)
    if len(together) < len(scores):
        words += f", of {len(together)} settings with one seed or more"
    means = [statistics.fmean(scores[run] or 0.0 for run in same) for same in together]
    return [same[0] for same in together], means, words


def _value(run: ComparedRun, name: str) -> Any:
    return run.settings.get(name, "not recorded")


def _places(values: Sequence[Any]) -> NDArray[np.float32]:
    """Return where values of a setting lie between 0 and 1.

    Numbers lie on their scale; others, in order, at the middles of stretches of one length.
    """
    order = setting_order(values)
    places = (np.array([order.index(value) for value in values]) + 0.5) / len(order)
    if is_scale(values):
        on_scale = np.log(values) if is_log_scale(values) else np.array(values, float)
        places = (on_scale - on_scale.min()) / np.ptp(on_scale)
    return places.astype(np.float32)


def _shares(
    places_NS: NDArray[np.float32],
    score_N: NDArray[np.float64],
    n_trees: int,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Return each setting's share (S,), by a forest; NaN where no tree has anything to split."""
    # Here, as it takes a second to import.
    from sklearn.tree import DecisionTreeRegressor

    found = np.zeros((n_trees, places_NS.shape[1]))
    for shares_S in found:
        row_N = random.integers(len(score_N), size=len(score_N))
        tree = DecisionTreeRegressor(random_state=int(random.integers(2**31)))
        # Unchecked, which takes a third of the time: what a tree reads is made just here.
        tree.fit(places_NS[row_N], score_N[row_N, None], check_input=False)
        shares_S[:] = main_effects(tree.tree_)
    total = found.mean(0).sum()
    return found.mean(0) / (total or np.nan)


def main_effects(tree: Any) -> NDArray[np.float64]:
    """Return the share of a tree's variance over the unit cube that each axis has alone, (S,).

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree
        Its leaves, L of them, are boxes in which it has one value::

            variance of axis s = integral over x_s of (mean over the other axes - mean)^2
    """
    low_MS = np.zeros((tree.node_count, tree.n_features))
    high_MS = np.ones_like(low_MS)
    splits = tree.children_left >= 0
    for node in np.flatnonzero(splits):  # a node comes before its children
        axis, children = tree.feature[node], [tree.children_left[node], tree.children_right[node]]
        low_MS[children], high_MS[children] = low_MS[node], high_MS[node]
        high_MS[children[0], axis] = low_MS[children[1], axis] = tree.threshold[node]
    low_LS, high_LS, value_L = low_MS[~splits], high_MS[~splits], tree.value[~splits, 0, 0]
    side_LS = high_LS - low_LS
    size_L = side_LS.prod(1)
    mean = size_L @ value_L
    variance = size_L @ (value_L - mean) ** 2
    if variance == 0:
        return np.zeros(tree.n_features)
    effects = []
    for low_L, high_L, side_L in zip(low_LS.T, high_LS.T, side_LS.T, strict=True):
        edges = np.unique([low_L, high_L])
        middle_E = (edges[1:] + edges[:-1]) / 2
        within_EL = (low_L <= middle_E[:, None]) & (middle_E[:, None] < high_L)
        marginal_E = within_EL @ (value_L * size_L / side_L)
        effects.append(np.diff(edges) @ (marginal_E - mean) ** 2)
    return np.array(effects) / variance
