"""The benchmark of a head that workers share out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from target import read_targets


@pytest.mark.heavy
def test_both_heads_give_the_same_losses_and_shared_out_it_is_a_part_of_each(
    run_benchmark, tmp_path: Path
) -> None:
    sizes = ("--units", 1003, "--hidden", 64, "--rows", 9, "--steps", 1)
    file = tmp_path / "targets.json"
    said = run_benchmark("sharded_head.py", "--workers", 2, *sizes, "--targets", file)
    for row in ("2 │ last layer │ whole", "2 │ last layer │ shared out", "2 │ whole step │ whole"):
        assert re.search(rf"{row} +│ +[0-9,]+ │ +[0-9.]+ │", said)
    speed, memory, sent = read_targets(file)
    assert speed.found > 0
    assert memory.is_met
    assert 0 < sent.found < 0.5
