"""jobs/demo.py at its smallest size."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

JOBS = Path(__file__).parents[2] / "jobs"


def test_demo_trains_what_a_lab_gets_without_settings() -> None:
    demo = yaml.safe_load((JOBS / "demo.yaml").read_text())
    assert list(demo) == ["scaling"]


@pytest.mark.heavy
def test_demo_says_where_everything_is_and_goes_on_with_what_is_there(
    say: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIBLET_RAY_TRACKING__URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("GIBLET_RAY_TRAIN__EPOCHS", "2")
    first, again = (say("demo.py", "--n_trs", 120) for _ in range(2))
    for name in ("data set", "run", "best checkpoint", "MLflow page", "speed"):
        assert re.search(rf"^  {name} +\S", first, re.MULTILINE), name
    assert "audio codes of an untrained EnCodec" in first
    assert Path("demo/dataset/manifest.json").is_file()
    assert Path("mlflow.db").is_file()
    assert "finished already" in again
    found = [re.findall(r"^  (?:test r, mean|of the ceiling|minus ridge) .*", said, re.MULTILINE)
             for said in (first, again)]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0]) == 3
    last = first.rstrip().splitlines()[-1].split()
    assert last[0] == "report"
    assert Path(last[1]).read_text().startswith("<!doctype html>")
