"""What is noted of a group of runs."""

from __future__ import annotations

from collections.abc import Callable

from giblet_ray.comparison.groups import notes_on_seeds
from giblet_ray.comparison.runs import by_settings, group_runs

METRIC = "val/pearson_mean"


def test_runs_that_differ_in_their_seed_alone_are_summed_up(make_run: Callable) -> None:
    scores = {(4, 0): 0.3, (8, 0): 0.2, (8, 1): 0.28, (2, 0): 0.4, (4, 1): 0.1, (4, 2): 0.2}
    runs = [
        make_run(f"{dim}-{seed}", r, settings={"model.embed_dim": dim, "train.seed": seed})
        for (dim, seed), r in scores.items()
    ]
    unfinished = {"model.embed_dim": 2, "train.seed": 1}
    runs.append(make_run("2-1", 0.5, settings=unfinished, status="KILLED"))
    # The settings of the best, trained again: no other seed, and no other training.
    again = {"model.embed_dim": 2, "train.seed": 0}
    runs += [make_run(name, 0.4, settings=again) for name in ("2-0 by its sweep", "2-0 once more")]
    (group,) = group_runs(runs, METRIC)
    assert notes_on_seeds(group, {run.id: run.name for run in runs}, METRIC) == [
        f"8-1, 8-0 differ in their seed alone: {METRIC} mean 0.2400, SD 0.0566 over 2 seeds",
        f"4-0, 4-2, 4-1 differ in their seed alone: {METRIC} mean 0.2000, SD 0.1000 over 3 seeds",
    ]


def test_runs_of_two_commits_differ_in_more_than_their_seed(make_run: Callable) -> None:
    settings = [{"model.embed_dim": 4, "train.seed": seed} for seed in (0, 1, 0)]
    runs = [
        make_run(name, r, settings=of_run, commit=commit * 40)
        for name, r, of_run, commit in zip(
            "abc", (0.3, 0.2, 0.1), settings, ("1", "2", "2"), strict=True
        )
    ]
    assert [[run.name for run in same] for same in by_settings(runs)] == [["a"], ["b", "c"]]
    (group,) = group_runs(runs, METRIC)
    assert notes_on_seeds(group, {run.id: run.name for run in runs}, METRIC) == [
        f"b, c differ in their seed alone: {METRIC} mean 0.1500, SD 0.0707 over 2 seeds"
    ]
