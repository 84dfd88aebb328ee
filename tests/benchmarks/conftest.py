"""Benchmarks at their smallest size: what they compare is checked, how fast it is here is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from script import run_script


@pytest.fixture
def run_benchmark(cluster: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a benchmark in this process; return what it prints, as one line."""

    def run(name: str, *words: object) -> str:
        run_script(f"benchmarks/{name}", *words)
        return " ".join(capsys.readouterr().out.split())

    return run
