"""Importance of settings: of a known score, and where it cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.importance._fanova._fanova import _Fanova
from sklearn.ensemble import RandomForestRegressor

from giblet_ray.comparison.importance import main_effects, setting_importance
from giblet_ray.comparison.runs import ComparedRun

NAMES = ["model.kernel_sizes", "optimizer.lr", "train.epochs"]
METRIC = "val/pearson_mean"


def runs_of(make_run: Callable[..., ComparedRun], n: int, score: Callable[[dict], float]) -> list:
    """Runs of random settings, whose score is a function of them."""
    random = np.random.default_rng(0)
    kernels = [(3, 5, 7), (7, 15), (31,)]
    runs = []
    for index in range(n):
        settings: dict[str, Any] = {
            "model.kernel_sizes": kernels[random.integers(3)],
            "optimizer.lr": float(10 ** random.uniform(-5, -2)),
            "train.epochs": int(random.integers(100)),
        }
        runs.append(make_run(str(index), score(settings), settings=settings))
    return runs


def test_setting_that_makes_the_score_is_the_most_important(make_run: Callable) -> None:
    by_lr = runs_of(make_run, 40, lambda s: np.log10(s["optimizer.lr"]))
    found = setting_importance(by_lr, NAMES, METRIC, 0)
    assert next(iter(found.shares)) == "optimizer.lr"
    assert found.shares["optimizer.lr"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.note == "from 40 finished runs"
    by_kernels = runs_of(make_run, 20, lambda s: float(len(s["model.kernel_sizes"])))
    found = setting_importance(by_kernels, NAMES, METRIC, 0)
    assert found.shares["model.kernel_sizes"] > 0.8
    assert "a hint" in found.note
    assert setting_importance(by_kernels, NAMES, METRIC, 0) == found


def test_a_tree_is_taken_apart_as_optuna_does_it() -> None:
    random = np.random.default_rng(0)
    places_NS = random.uniform(size=(60, 4))
    score_N = places_NS[:, 0] * (1 + places_NS[:, 1]) + 0.1 * random.normal(size=60)
    axes = [np.array([axis]) for axis in range(4)]
    forest = {"n_trees": 5, "max_depth": 64, "min_samples_split": 2, "min_samples_leaf": 1}
    optuna = _Fanova(**forest, seed=3)
    optuna.fit(places_NS, score_N, np.array([[0.0, 1.0]] * 4), axes)
    trees = RandomForestRegressor(n_estimators=5, random_state=3).fit(places_NS, score_N)
    ours = np.mean([main_effects(tree.tree_) for tree in trees.estimators_], axis=0)
    np.testing.assert_allclose(ours, [optuna.get_importance(axis)[0] for axis in range(4)], 1e-6)


def test_intervals_tell_what_was_planted_from_what_is_chance(make_run: Callable) -> None:
    random = np.random.default_rng(1)
    planted = runs_of(
        make_run, 40, lambda s: np.log10(s["optimizer.lr"]) + random.normal(scale=0.3)
    )
    found = setting_importance(planted, NAMES, METRIC, 0)
    low, high = found.intervals["optimizer.lr"]
    assert 0 <= low < found.shares["optimizer.lr"] <= high <= 1
    assert all(found.intervals[name][1] < low for name in NAMES if name != "optimizer.lr")
    said: list[float] = []
    chance = runs_of(make_run, 40, lambda s: random.normal())
    found = setting_importance(chance, NAMES, METRIC, 0, said.append)
    lows, highs = zip(*found.intervals.values(), strict=True)
    assert max(lows) < min(highs)
    assert said == sorted(said)
    assert said[-1] == 1


def test_runs_that_were_stopped_do_not_count(make_run: Callable) -> None:
    runs = runs_of(make_run, 12, lambda s: s["optimizer.lr"])
    stopped = make_run("stopped", -5, settings=runs[0].settings, status="KILLED")
    found = setting_importance([*runs, stopped], NAMES, METRIC, 0)
    assert found == setting_importance(runs, NAMES, METRIC, 0)
    assert found.n_runs == 12


def test_seeds_are_chance_and_no_setting(make_run: Callable) -> None:
    """Trained again are the best, whose seeds would seem to make them so."""
    runs = runs_of(make_run, 12, lambda s: np.log10(s["optimizer.lr"]))
    alone = setting_importance(runs, NAMES, METRIC, 0)
    best = max(runs, key=lambda run: run.value(METRIC))
    for seed, luck in ((1, 0.5), (2, -0.5)):
        settings = {**best.settings, "train.seed": seed}
        runs.append(make_run(f"again-{seed}", best.value(METRIC) + luck, settings=settings))
    found = setting_importance(runs, [*NAMES, "train.seed"], METRIC, 0)
    assert found.shares == alone.shares
    assert found.n_runs == 12
    assert found.note.startswith("from 14 finished runs, of 12 settings with one seed or more")


def test_where_most_runs_were_stopped_all_are_compared_at_the_epoch_that_all_reached(
    make_run: Callable,
) -> None:
    """At epoch 2 the learning rate decides; what came later is another matter."""
    runs = []
    for index, run in enumerate(runs_of(make_run, 30, lambda s: 0.0)):
        early = float(np.log10(run.settings["optimizer.lr"]))
        curve = {1: 0.0, 2: early} if index % 9 else {1: 0.0, 2: early, 3: 9.0 - index}
        status = "KILLED" if index % 9 else "FINISHED"
        runs.append(replace(run, status=status, curves={METRIC: curve}))
    found = setting_importance(runs, NAMES, METRIC, 0)
    assert found.n_runs == 30
    assert "from 30 runs by their scores at epoch 2, which all of them reached" in found.note
    assert found.shares["optimizer.lr"] > 0.8


def test_too_few_runs_or_differences_are_told(make_run: Callable) -> None:
    runs = runs_of(make_run, 6, lambda s: s["optimizer.lr"])
    for some, names, note in (
        (runs[:4], NAMES, "too few runs to tell: 4"),
        ([], NAMES, "too few runs to tell: 0"),
        (runs, [], "no setting differs among the 6 runs"),
        (runs_of(make_run, 6, lambda s: 0.5), NAMES, "all 6 runs have the same score"),
    ):
        found = setting_importance(some, names, METRIC, 0)
        assert found.shares == {}
        assert note in found.note


def test_setting_without_a_record_or_without_a_number_is_another_value(make_run: Callable) -> None:
    values = [None, 0.1, 0.3, None, 0.3, 0.1, None, 0.1]
    runs = [
        make_run(
            str(i), 1.0 if v is None else 0.0, settings={"model.dropout": v, "train.epochs": i}
        )
        for i, v in enumerate(values)
    ]
    runs.append(make_run("old", 0.5, settings={}))
    found = setting_importance(runs, ["model.dropout"], METRIC, 0)
    assert found.shares == {"model.dropout": 1.0}
