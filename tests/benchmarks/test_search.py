"""The benchmark of what a search finds, and of what early stopping saves."""

from __future__ import annotations

import re

import pytest


@pytest.mark.heavy
def test_searches_are_ranked_by_what_was_planted_and_early_stopping_by_what_it_saves(
    run_benchmark,
):
    sizes = {"trials": 2, "concurrent": 1, "seeds": 1, "epochs": 1, "asha-epochs": 4, "trs": 200}
    words = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    said = run_benchmark("search.py", *words)

    for name in ("tpe-0", "random-0"):
        assert f"{name}: 2 trials of 1 epochs" in said
    for method in ("tpe", "random"):
        # Workers, best score, rank of the trial with the planted settings, trials, seconds.
        assert re.search(rf"│ {method} +│ 0 +│ 1 +│ [-0-9.]+ +│ ([12]|-) +│ 2 +│ [0-9]+ +│", said)
    assert re.search(r"│ none +│ [-0-9.]+ +│ 8 +│", said)  # epochs: all trials to their end
    stopped = re.search(r"│ asha +│ [-0-9.]+ +│ ([0-9]+) +│", said)
    assert stopped
    share = int(stopped[1]) / 8
    assert f"asha trained {share:.2f} of the epochs" in said
