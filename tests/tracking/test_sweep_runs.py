"""What a sweep keeps of its record until MLflow has it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.dataset.storage import Storage
from giblet_ray.tracking import sweep_runs
from giblet_ray.tracking.points import Point
from giblet_ray.tracking.sweep_runs import SweepRuns


def test_reports_do_not_wait_for_all_points_to_be_written_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where many points wait for a server, and take long to write."""
    kept: list[list[Point]] = []

    def keep(storage: Storage, folder: str, points: Sequence[Point], *_: Any) -> None:
        time.sleep(0.2)
        kept.append(list(points))

    monkeypatch.setattr(sweep_runs, "keep_unsent", keep)
    monkeypatch.setattr(sweep_runs._SweepLog, "_next", lambda self: [])  # MLflow is told nothing
    storage = Storage.at(str(tmp_path / "sweep"))
    runs = SweepRuns(f"sqlite:///{tmp_path}/mlflow.db", "x", "sweep", storage, print, "again")
    runs.begin(0, "0000", {}, "/data/film", "ab" * 32)
    for step in range(20):
        runs.log("0000", [(step, {"val/loss": 1.0})])
    assert len(kept) < 10
    runs.end("0000", "finished", "", {}, "")
    assert [point["step"] for point in kept[-1] if "step" in point] == [*range(20)]
