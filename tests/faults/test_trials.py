"""Trials whose processes are killed, or need more memory than there is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from giblet_ray.config import TuneJob
from giblet_ray.tuning.sweep import sweep


@pytest.mark.usefixtures("cluster")
def test_a_killed_process_and_one_out_of_memory_do_not_end_a_sweep(
    tune_job: Callable[..., TuneJob], tmp_path: Path
) -> None:
    """The killed trial goes on from its checkpoint; the other has its cause."""
    killed: list[int] = []

    def kill_one() -> None:
        """Kill the process that trains the second trial, after its first epoch."""
        record = tmp_path / "runs/sweep/0001/trial.json"
        while not (record.exists() and json.loads(record.read_text())["scores"]):
            time.sleep(0.02)
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::ImplicitFunc"):
                killed.append(process.pid)
                process.kill()

    threading.Thread(target=kill_one, daemon=True).start()
    space = {"model.head_dim": [16, 17, 10**11]}
    settings = {"space": space, "search": "grid", "scheduler": "none", "max_concurrent": 1}
    swept = sweep(tune_job(settings, train={"epochs": 6}), lambda _: None)
    assert killed
    by_number = sorted(swept.trials, key=lambda trial: trial.number)
    causes = [trial.cause for trial in by_number]
    assert [trial.state for trial in by_number] == ["finished", "finished", "failed"], causes
    assert [len(trial.scores) for trial in by_number] == [6, 6, 0]
    assert by_number[2].cause.startswith("out of memory: ")
    client = MlflowClient(swept.tracking_uri)
    runs = client.search_runs([client.get_run(swept.mlflow_run).info.experiment_id])
    (failed,) = [run for run in runs if run.data.tags.get("giblet_ray.trial") == "2"]
    assert failed.info.status == "FAILED"
