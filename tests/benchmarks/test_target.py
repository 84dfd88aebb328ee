"""What a benchmark tells of its bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from target import Target, read_targets, tell


def test_what_was_not_measured_is_neither_met_nor_missed_and_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = [
        Target(3, "quick", 1.2, 1.0, True, (1.1, 1.3)),
        Target.once(3, "close", 0.3, 0.2),
        Target.once(3, "of a GPU", None, 0.2),
    ]
    tell(targets, tmp_path / "targets.json")
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if "of a GPU" in line)
    assert "not measured" in row
    assert [target.is_met for target in targets] == [True, False, False]
    assert [target.is_missed for target in targets] == [False, True, False]
    assert read_targets(tmp_path / "targets.json") == targets
