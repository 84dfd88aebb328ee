"""No benchmark is left out, and each can be begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from script import run_script

HERE = Path(__file__).parent
SCRIPTS = [
    path
    for path in sorted(HERE.parents[1].glob("benchmarks/*.py"))
    if "ArgumentParser(" in path.read_text()
]


def test_every_benchmark_runs_in_the_suite() -> None:
    tested = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert {"ingest.py", "sweep.py"} <= {path.name for path in SCRIPTS}
    assert [path.name for path in SCRIPTS if path.name not in tested] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_it_tells_what_it_measures(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(f"benchmarks/{script.name}", "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
