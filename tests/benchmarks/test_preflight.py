"""The benchmark of what preflight says of memory."""

from __future__ import annotations

import re

import pytest


@pytest.mark.heavy
def test_memory_that_was_said_is_told_beside_what_a_training_took(run_benchmark):
    said = run_benchmark("preflight.py", "--models", "tiny")
    (ratios,) = re.findall(r"│ tiny +│ [0-9,]+ +│ ([0-9.]+) +│ ([0-9.]+) +│ ([0-9.]+) +│", said)
    counted, rehearsed, checkpoint = map(float, ratios)
    assert 0.5 < counted < 2
    assert 0.5 < rehearsed < 2
    assert 0.98 < checkpoint < 1.02
