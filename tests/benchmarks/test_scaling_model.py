"""docs/scaling.md, computed from what is measured, by planning.py among others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import scaling_model
import scaling_plan
from scaling_plan import NETWORK, Plan
from target import read_targets


@pytest.mark.heavy
def test_a_plan_is_computed_from_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["--trs", "20000", "--mib", "4", "--repeats", "1"]
    written = ["--write", str(tmp_path / "scaling.md"), "--targets", str(tmp_path / "targets")]
    monkeypatch.setattr(sys, "argv", ["scaling_model.py", *sizes, *written])
    scaling_model.main()
    text = (tmp_path / "scaling.md").read_text()
    assert re.search(r"\| TRs of all scans \| 2\d,\d{3} \| 2\d,\d{3} \|", text)
    assert re.search(r"\| AdamW, fused, 28 bytes a parameter \| \d+\.\d\d \|", text)
    assert "1,515 million parameters in float32, 1,406 million" in text
    targets = read_targets(tmp_path / "targets")
    assert [(target.row, target.bound) for target in targets] == [(9, 10), (9, 1)] * 2
    assert all(target.found is not None and target.found > 0 for target in targets)


@pytest.mark.parametrize("rate", [2.24e9, 5e9, 6e9])
def test_cores_that_are_said_to_read_a_node_s_rows_are_enough(rate: float) -> None:
    case = {"seconds": 1.0, "peak_bytes": 1e9, "n_files": 1.0, "n_trs": 1.0}
    text = scaling_plan._verdicts(case, {"read": rate})
    found = re.search(r"a node reads\n +([\d.]+) GB/s: .*\n +(\d+) cores", text)
    assert found is not None
    need = 1e9 * float(found[1])
    assert need <= rate * int(found[2]) < need + rate


def test_bytes_are_those_of_the_issue_s_arithmetic() -> None:
    """Counted rank by rank and number by number."""
    plan = Plan(gpus=4, trunk=1000, head=8000, hidden=10)
    ring = sum(2 * 4 * (9000 // 4) for _ in range(3))  # three pieces reduced, three gathered
    assert plan.sent_bytes(sharded=False) == ring
    trunk = sum(2 * 4 * (1000 // 4) for _ in range(3))
    own_rows = scaling_plan.TRS_PER_GPU * 10
    assert plan.sent_bytes(sharded=True) == trunk + 2 * 3 * 4 * own_rows
    assert plan.memory_seconds(sharded=True) < plan.memory_seconds(sharded=False)
    assert plan.step_seconds(sharded=False) >= ring / NETWORK.value
    alone = Plan(gpus=1, trunk=1000, head=8000, hidden=10)
    assert alone.sent_bytes(sharded=True) == alone.sent_bytes(sharded=False) == 0
