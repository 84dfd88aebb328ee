"""The benchmark of many short trials."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from target import read_targets


@pytest.mark.heavy
def test_a_sweep_s_search_slots_and_points_are_watched(run_benchmark, tmp_path: Path):
    said = run_benchmark(
        *("many_trials.py", "--trials", 3, "--slots", 2, "--epochs", 1),
        *("--targets", tmp_path / "targets"),
    )
    assert re.search(r"slots in use, mean +│ [0-9.]+ of 2 ", said)
    assert re.search(r"points that MLflow took a second +│ [0-9,]+ \([1-9][0-9,]* in all\)", said)
    targets = read_targets(tmp_path / "targets")
    assert [target.row for target in targets] == [7, 7, 7]
    searching, used, behind = (target.found for target in targets)
    assert 0 < searching < 1
    assert 0 < used <= 1
    assert behind >= 0
