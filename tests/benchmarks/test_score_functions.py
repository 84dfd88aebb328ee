"""The benchmark of score functions: every claim is tried, on few data sets."""

from __future__ import annotations

import re

import pytest
from script import run_script


@pytest.mark.heavy
def test_every_claim_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    run_script("benchmarks/score_functions.py", "--share", 0.01)
    said = " ".join(capsys.readouterr().out.split())
    claims = ("interval", "p of no signal", "paired", "any discovery", "ceiling", "shared")
    for claim in (*claims, "units x 2,000 TRs"):
        assert claim in said
    assert len(re.findall(r"│ (met|missed by \S+) +│", said)) == 14
