"""Which trials are trained again with other seeds, and which settings win."""

from __future__ import annotations

from typing import Any

import pytest

from giblet_ray.evaluation.score import Score
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.journal import TrialRecord
from giblet_ray.tuning.ranking import by_score, by_settings, repeats, seeds_of

R, LOSS = Score(), Score("val/loss")


def trial(number: int, dim: int, score: float | None, seed: int | None = None, **more: Any):
    scores = {} if score is None else {1: score - 0.01, 2: score}
    more = {"state": "finished", **more}
    return TrialRecord(number, {"model.embed_dim": dim}, 2, scores=scores, seed=seed, **more)


def numbers(trials: list[TrialRecord]) -> list[list[int]]:
    return [[each.number for each in group] for group in by_settings(trials, R)]


SEARCHED = [
    trial(0, 4, 0.20),
    trial(1, 8, 0.30),
    trial(2, 16, 0.90, state="stopped"),
    trial(3, 32, 0.28),
    trial(4, 64, None, state="failed"),
    trial(5, 2, float("nan")),
]


def test_finalists_are_the_best_that_ran_to_their_end_each_with_one_more_seed_at_a_time() -> None:
    wanted = repeats(SEARCHED, SweepConfig(seeds=3, finalists=2), 7, R)
    assert [(settings["model.embed_dim"], seed) for settings, seed in wanted] == [
        *((8, 8), (32, 8)),
        *((8, 9), (32, 9)),
    ]
    begun = [*SEARCHED, trial(6, 8, 0.1, 8), trial(7, 32, None, 8, state="failed")]
    left = repeats(begun, SweepConfig(seeds=3, finalists=2), 7, R)
    assert left == wanted[2:]
    assert repeats(begun, SweepConfig(seeds=2, finalists=2), 7, R) == []
    assert repeats(SEARCHED, SweepConfig(seeds=1), 7, R) == []
    many = repeats(SEARCHED, SweepConfig(seeds=2, finalists=9), 7, R)
    assert [settings["model.embed_dim"] for settings, _ in many] == [8, 32, 4]
    least = repeats(SEARCHED, SweepConfig(seeds=2, finalists=1), 7, LOSS)
    assert [settings["model.embed_dim"] for settings, _ in least] == [4]


def test_settings_win_by_the_mean_over_their_seeds_and_are_led_by_their_best_training() -> None:
    again = [trial(6, 8, 0.10, 1), trial(7, 32, 0.29, 1), trial(8, 8, 0.2, 2), trial(9, 32, 0.3, 2)]
    trials = [*SEARCHED, *again]
    assert numbers(trials)[:4] == [[9, 7, 3], [1, 8, 6], [2], [0]]
    seeds = seeds_of(by_settings(trials, R)[0], R)
    assert seeds is not None
    assert seeds.scores == (0.3, 0.29, 0.28)
    assert seeds.mean == pytest.approx(0.29)


def test_settings_that_did_not_train_with_every_seed_come_after_those_that_did() -> None:
    """Also where their mean is better, and what was stopped or has failed counts for nothing."""
    again = [trial(6, 8, 0.95, 1, state="stopped"), trial(7, 32, 0.01, 1)]
    assert numbers([*SEARCHED, *again])[:2] == [[7, 3][::-1], [2]]
    assert seeds_of(by_settings([*SEARCHED, *again], R)[1], R) is None


def test_one_training_made_twice_counts_once() -> None:
    """Of equal settings and seed, the best."""
    twice = [trial(6, 32, 0.27), trial(7, 32, 0.29, 1), trial(8, 32, 0.29, 1)]
    ranked = by_settings([*SEARCHED, *twice], R)
    assert [each.number for each in ranked[0]] == [7, 8, 3, 6]
    seeds = seeds_of(ranked[0], R)
    assert seeds is not None
    assert seeds.scores == (0.29, 0.28)
    assert numbers([*SEARCHED, *twice[:1]])[:3] == [[2], [1], [3, 6]]
    assert seeds_of([SEARCHED[3], twice[0]], R) is None
    again = [*SEARCHED, trial(6, 8, 0.30)]
    wanted = repeats(again, SweepConfig(seeds=2, finalists=2), 7, R)
    assert [settings["model.embed_dim"] for settings, _ in wanted] == [8, 32]


def test_what_failed_is_never_the_best_however_well_it_began() -> None:
    """Its settings would fail again; a promotion would not take it either."""
    trials = [
        trial(0, 4, 0.9, state="failed"),
        trial(1, 8, 0.2),
        trial(2, 8, 0.95, 1, state="failed"),
        trial(3, 16, 0.1, state="stopped"),
        trial(4, 32, None, state="stopped"),
    ]
    assert numbers(trials) == [[1, 2], [3], [0], [4]]
    assert [each.number for each in by_score(trials, R)] == [1, 3, 4, 2, 0]


def test_without_other_seeds_the_best_trial_wins_stopped_or_not() -> None:
    assert numbers(SEARCHED) == [[2], [1], [3], [0], [4], [5]]
