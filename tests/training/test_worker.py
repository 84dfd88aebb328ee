"""What a worker's link keeps of the record until MLflow has it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.tracking.points import RunAddress, keep_unsent, read_unsent
from giblet_ray.training import worker
from giblet_ray.training.worker import TrainLink

AWAY = RunAddress("http://127.0.0.1:9", "run", 0.0)


def test_what_a_node_left_while_mlflow_was_away_outlives_its_next_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second of two nodes, of two workers each."""
    second_node = SimpleNamespace(
        get_world_rank=lambda: 2,
        get_world_size=lambda: 4,
        get_local_rank=lambda: 0,
        get_local_world_size=lambda: 2,
        get_node_rank=lambda: 1,
    )
    monkeypatch.setattr(worker.ray.train, "get_context", lambda: second_node)
    monkeypatch.setattr(worker.ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(worker, "broadcast_from_rank_zero", lambda name: name)
    tracking = {"system_metrics_seconds": 0}
    job = TrainJob(dataset="", name="night", storage={"path": str(tmp_path)}, tracking=tracking)
    key = "system/node-1/disk_usage_percentage"
    left = [{"run": "run", "key": key, "value": 1.0, "timestamp": n, "step": n} for n in range(3)]
    keep_unsent(Storage.at(str(tmp_path)), "night", left, "node-1")
    link = TrainLink(MagicMock(), job, AWAY)
    with link.resume():
        assert link.unsent() == left
    link.close()
    assert [*read_unsent(Storage.at(str(tmp_path)), "night").values()] == [left]
