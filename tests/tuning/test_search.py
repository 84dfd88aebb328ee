"""What is tried, in what order, and what is given up; no training, no Ray."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from giblet_ray.evaluation.score import Score
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.search import DEFAULT_TRIALS, Search
from giblet_ray.tuning.space import Choice, Range, Settings, Space

SPACE = {
    "model.embed_dim": Choice((8, 16, 32)),
    "model.kernel_sizes": Choice(([3], [3, 5], [7, 15])),
    "optimizer.lr": Range(1e-4, 1e-1, True),
}
SMALL = {"model.embed_dim": Choice((8, 16, 32)), "model.audio_codebooks": Range(2, 5, False)}


def quality(settings: Settings) -> float:
    """A score with its top at embed_dim 16, kernels 7 and 15, and lr 1e-2."""
    distance = abs(np.log10(settings.get("optimizer.lr", 1e-2)) + 2)
    score = 0.5 - 0.1 * distance
    score -= 0.1 * (settings["model.embed_dim"] != 16)
    return score - 0.1 * (settings.get("model.kernel_sizes") != [7, 15])


def run(search: Search, numbers: range, epochs: int = 1) -> list[Settings]:
    asked = []
    for number in numbers:
        asked.append(search.ask(number))
        score = quality(asked[-1])
        for epoch in range(1, epochs + 1):
            search.report(number, epoch, 5 * epoch, score)
        search.finish(number, score, stopped=False)
    return asked


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_same_seed_asks_the_same_and_another_seed_does_not(method: Any) -> None:
    first, again, other = (
        run(Search(SPACE, SweepConfig(search=method, seed=seed), Score()), range(12))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("method", ["random", "tpe", "grid"])
def test_a_search_goes_on_from_its_records_as_if_never_stopped(method: Any) -> None:
    settings = SweepConfig(search=method, num_samples=14, scheduler="none")
    whole = run(Search(SPACE, settings, Score()), range(14))
    resumed = Search(SPACE, settings, Score())
    for number, tried in enumerate(whole[:9]):
        resumed.replay(number, tried, {1: quality(tried)}, {1: 5})
        resumed.finish(number, quality(tried), stopped=False)
    assert run(resumed, range(9, 14)) == whole[9:]


@pytest.mark.parametrize("method", ["random", "tpe", "grid"])
def test_no_settings_are_tried_twice_and_a_small_space_is_tried_whole(method: Any) -> None:
    search = Search(SMALL, SweepConfig(search=method, num_samples=50), Score())
    assert search.n_trials == 12
    asked = []
    for number in range(12):
        asked.append(search.ask(number))
        search.finish(number, float(number % 5), stopped=False)
    assert len({json.dumps(each, sort_keys=True) for each in asked}) == 12


def test_no_settings_are_tried_twice_in_a_large_space_that_tpe_knows_the_best_of() -> None:
    """Of 16,384 combinations, too many to be listed, it draws the same ones 20 times in a row."""
    space: Space = {f"model.n{i}": Choice((0, 1)) for i in range(14)}
    search = Search(space, SweepConfig(scheduler="none", seed=1, num_samples=72), Score())
    asked = []
    for number in range(72):
        asked.append(search.ask(number))
        search.finish(number, -float(sum(asked[-1].values())), stopped=False)
    assert len({json.dumps(each, sort_keys=True) for each in asked}) == 72


def test_a_grid_goes_on_with_what_is_left_whichever_trials_are_known() -> None:
    whole = run(Search(SMALL, SweepConfig(search="grid"), Score()), range(12))
    known = {0: whole[0], 2: whole[2], 5: whole[7]}
    resumed = Search(SMALL, SweepConfig(search="grid"), Score())
    for number, tried in known.items():
        resumed.replay(number, tried, {1: quality(tried)}, {1: 5})
    left = [each for each in whole if each not in known.values()]
    assert run(resumed, range(6, 15)) == left


def test_number_of_trials_is_the_budget_or_what_there_is() -> None:
    assert Search(SPACE, SweepConfig(), Score()).n_trials == DEFAULT_TRIALS
    assert Search(SPACE, SweepConfig(num_samples=5), Score()).n_trials == 5
    assert Search(SPACE, SweepConfig(search="grid", grid_points=4), Score()).n_trials == 36
    assert Search(SPACE, SweepConfig(search="grid", num_samples=7), Score()).n_trials == 7


def test_tpe_comes_nearer_to_the_best_than_random_search() -> None:
    best: dict[str, list[float]] = {"tpe": [], "random": []}
    for method, found in best.items():
        for seed in range(6):
            search = Search(SPACE, SweepConfig(search=method, seed=seed, num_samples=30), Score())  # type: ignore[arg-type]
            found.append(max(map(quality, run(search, range(30)))))
    assert np.mean(best["tpe"]) > np.mean(best["random"])
    assert np.mean(best["tpe"]) > 0.47


def epochs_spent(scheduler: Any, n_trials: int = 27, epochs: int = 18) -> tuple[int, float]:
    """Run trials one after the other; return the epochs of all and the best final score."""
    settings = SweepConfig(search="random", scheduler=scheduler, grace_steps=10, num_samples=99)
    search = Search(SPACE, settings, Score())
    spent, best = 0, 0.0
    for number in range(n_trials):
        top = quality(search.ask(number))
        for epoch in range(1, epochs + 1):
            spent += 1
            score = top * (1 - 0.5**epoch)
            if search.report(number, epoch, 5 * epoch, score) and epoch < epochs:
                search.finish(number, score, stopped=True)
                break
        else:
            search.finish(number, score, stopped=False)
            best = max(best, score)
    return spent, best


def test_asha_and_median_stopping_save_epochs_and_keep_the_best() -> None:
    all_epochs, best = epochs_spent("none")
    assert all_epochs == 27 * 18
    for scheduler in ("asha", "median"):
        spent, found = epochs_spent(scheduler)
        assert spent < 0.6 * all_epochs
        assert found == pytest.approx(best, abs=0.01)


def test_every_trial_has_its_grace() -> None:
    search = Search(
        SPACE, SweepConfig(search="random", grace_steps=50, reduction_factor=2), Score()
    )
    for number in range(10):
        search.ask(number)
        stops = [search.report(number, epoch, 10 * epoch, -0.1 * number) for epoch in range(1, 6)]
        assert not any(stops[:4])
        search.finish(number, -0.1 * number, stopped=stops[4])
    assert stops[4]


def test_trials_of_other_batch_sizes_are_compared_at_like_steps() -> None:
    """Of 12 steps an epoch, and of 5: a rung is passed at the first epoch's end with its steps."""
    settings = SweepConfig(search="random", grace_steps=20, reduction_factor=3)
    search = Search(SPACE, settings, Score())
    for number in range(9):  # good ones, which pass the rungs of 20 and 60 steps
        search.ask(number)
        for epoch in range(1, 6):
            search.report(number, epoch, 12 * epoch, 1.0)
        search.finish(number, 1.0, stopped=False)
    for number, per_epoch, last in ((9, 12, 2), (10, 5, 4)):
        search.ask(number)
        stops = [search.report(number, e, per_epoch * e, 0.5) for e in range(1, last + 1)]
        assert stops == [False] * (last - 1) + [True]
        search.finish(number, 0.5, stopped=True)


def test_failed_trials_are_no_evidence() -> None:
    search = Search(SPACE, SweepConfig(), Score())
    for number in range(12):
        search.ask(number)
        search.finish(number, None, stopped=False)
    assert search.ask(12).keys() == SPACE.keys()
