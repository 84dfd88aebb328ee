"""The benchmark of making a data set."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from script import ROOT
from target import read_targets


@pytest.mark.heavy
def test_both_ways_make_the_same_rows_and_every_stage_is_timed(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    words = ["--minutes", "0.3", "--repeats", "1", "--targets", str(file)]
    # In a process of its own, whose parts keep their stages' clocks.
    ended = subprocess.run(
        [sys.executable, "benchmarks/film_to_dataset.py", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = " ".join(ended.stdout.split())

    # Rows that differ raise before the tables are printed.
    for way in ("in one process", "by the job"):
        assert re.search(rf"│ {way} +│ [0-9.]+ +│", said), way
    spent = r"[0-9.]+, [0-9]+%"
    for stage in ("decode frames", "decode sound", "codec", "text", "write"):
        assert re.search(rf"│ {stage} +│ {spent} +│ (.* │ )?{spent} +│", said), stage
    (target,) = read_targets(file)
    assert (target.row, target.bound, target.found > 0) == (6, 1.6, True)
