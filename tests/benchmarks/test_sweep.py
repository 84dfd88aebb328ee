"""The benchmark of a sweep's cost."""

from __future__ import annotations

import re

import pytest


@pytest.mark.heavy
def test_a_sweep_is_timed_beside_a_bare_loop_of_the_same_trainings(run_benchmark):
    said = run_benchmark("sweep.py", "--trials", 2, "--epochs", 1, "--rows", 640)

    assert "both ways reach the same scores to the last bit" in said  # or it would have raised
    for row in ("bare loop, one after the other", "bare loop / 2", "sweep, 2 at a time"):
        assert re.search(rf"{row} +│ +[0-9.]+ │ +[0-9.]+ │", said)
    assert re.search(r"extra wall time per trial: -?[0-9.]+ s", said)
    assert re.search(r"[0-9]+ MiB with one trial at a time, [0-9]+ MiB with 2", said)
