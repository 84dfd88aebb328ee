"""The benchmark of the step, on few units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from script import run_script
from target import read_targets

RATIO = r"[0-9.]+ \([0-9.]+ to(?: [0-9.]+\))?"
"""Median and range; where the table is too narrow, its end is in the next line."""


def differences(said: str, model: str, sizes: str) -> list[float]:
    """Of loss and gradients, of a model that has been stepped both ways."""
    number = " +│ [0-9,.]+"
    row = rf"│ {model} +│ {sizes}{3 * number} +│ {RATIO}{number} +│ (\S+), (\S+) +│"
    found = re.search(row, said)
    assert found is not None
    return [float(each) for each in found.groups()]


@pytest.mark.heavy
def test_a_step_is_set_beside_plain_pytorch_and_the_floor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("--models", "default", "--batches", 16, "--units", 30, 10**9, "--repeats", 1)
    run_script("benchmarks/step.py", *words, "--targets", tmp_path / "found.json")
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"cpu: [0-9,]+ GFLOP/s, [0-9,.]+ GB/s", said)
    assert max(differences(said, "default", "16 +│ 30")) < 1e-4
    assert re.search(r"default, 16 TRs, 1,000,000,000 units: left out, needs [0-9,]+ GB", said)
    measured, *others = read_targets(tmp_path / "found.json")
    assert "16 TRs, 30 units, cpu: times faster than plain" in measured.what
    assert (measured.row, measured.bound, measured.at_least) == (1, 2.0, True)
    assert measured.found is not None
    assert measured.spread == (measured.found, measured.found)
    assert [each.bound for each in others] == [5.0, 0.6, 2.0, 5.0, 0.6]
    assert all(each.found is None for each in others)


@pytest.mark.heavy
def test_contract_1_steps_both_ways_to_the_same_gradients(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--models", "contract1", "--batches", 20, "--units", 30, "--repeats", 1)
    run_script("benchmarks/step.py", *words)
    said = " ".join(capsys.readouterr().out.split())
    assert max(differences(said, "contract1", "20 +│ 30")) < 1e-3
