"""Benchmarks at their smallest size: what they compare is checked, how fast it is here is not."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run_benchmark(
    cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a benchmark's file as a script of this process; return what it prints, as one line."""

    def run(script: str, *words: object) -> str:
        monkeypatch.syspath_prepend(BENCHMARKS)
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return " ".join(capsys.readouterr().out.split())

    return run
