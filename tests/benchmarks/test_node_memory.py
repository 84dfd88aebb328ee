"""The benchmark of a node's memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import node_memory
import pytest
from target import read_targets


def test_memory_is_told_by_workers_trials_and_of_a_run_that_goes_on(
    cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ["--workers", "1", "2", "--trials", "1", "2", "--rows", "2048", "--voxels", "500"]
    more = ["--hidden", "64", "--repeats", "1", "--targets", str(tmp_path / "targets")]
    monkeypatch.setattr(sys, "argv", ["node_memory.py", *sizes, *more])
    node_memory.main()
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"│ 2 +│ [-0-9,]+ +│ [-0-9,]+ +│", said)
    assert re.search(r"│ training \(MiB\) ┃|training \(MiB\)", said)
    targets = read_targets(tmp_path / "targets")
    assert [(target.row, target.bound) for target in targets] == [(8, 1.1)] * 3
    assert all(target.found is not None and target.found > 0.5 for target in targets)
