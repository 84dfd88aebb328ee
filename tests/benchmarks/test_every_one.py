"""No benchmark is left out."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def test_every_benchmark_runs_in_the_suite():
    tested = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    scripts = HERE.parents[1].glob("benchmarks/*.py")
    benchmarks = {path.name for path in scripts if "ArgumentParser(" in path.read_text()}
    assert {"ingest.py", "sweep.py"} <= benchmarks
    assert {name for name in benchmarks if name not in tested} == set()
