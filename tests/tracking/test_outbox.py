"""What becomes of entries that a store refuses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from giblet_ray.tracking import outbox
from giblet_ray.tracking.outbox import Outbox
from giblet_ray.tracking.points import Point


class Refusing(Outbox):
    """Tells a store of one entry at a time, which has lost a run."""

    def _together(self, entries: Sequence[Point]) -> Sequence[Point]:
        return entries[:1]

    def _send(self, together: Sequence[Point]) -> None:
        if together[0]["run"] == "gone":
            raise MlflowException("Run gone not found", RESOURCE_DOES_NOT_EXIST)


def test_a_run_that_is_gone_is_said_once_and_few_of_its_points_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when it is deleted while it trains."""
    monkeypatch.setattr(outbox, "_MOST_REFUSED", 3)
    lines: list[str] = []
    box = Refusing("sqlite:///mlflow.db", lines.append)
    box.restore([{"run": run, "key": "x", "step": n} for n in range(6) for run in ("gone", "here")])
    left = box.close(60)
    assert [(point["run"], point["step"]) for point in left] == [("gone", n) for n in range(3)]
    (line,) = lines
    assert line.startswith("MLflow refuses what it is told of run gone: Run gone not found; of ")
    assert line.endswith("the first 3 points are kept")
