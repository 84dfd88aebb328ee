"""The benchmark of a node's memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from target import read_targets

ROOT = Path(__file__).parents[2]


@pytest.mark.heavy
def test_memory_is_told_by_workers_trials_and_of_a_run_that_goes_on(tmp_path: Path) -> None:
    """In a process of its own: what the tests' own Ray has in shared memory is not told apart."""
    sizes = ["--workers", "1", "2", "--trials", "1", "2", "--rows", "2048", "--voxels", "500"]
    more = ["--hidden", "64", "--repeats", "1", "--targets", str(tmp_path / "targets")]
    command = [sys.executable, "benchmarks/node_memory.py", *sizes, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert re.search(r"│ 2 +│ [-0-9,]+ +│ [-0-9,]+ +│", said)
    assert "training (MiB)" in said
    targets = read_targets(tmp_path / "targets")
    assert [(target.row, target.bound) for target in targets] == [(8, 1.1)] * 3
    assert all(target.found is not None and target.found > 0.5 for target in targets)
