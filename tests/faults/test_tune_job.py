"""jobs/tune.py in processes of its own: killed, and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from processes import JobProcess

from giblet_ray.dataset.reader import Dataset

SETTINGS = {
    "name": "sweep",
    "train": {"epochs": 4, "batch_trs": 16},
    "tracking": {"log_model": False},
    "sweep": {
        "space": {
            "model.embed_dim": [2, 4],
            "optimizer.lr": {"min": 1e-3, "max": 1e-1, "log": True},
            "model.kernel_sizes": [[3], [3, 5]],
        },
        "num_samples": 6,
        "scheduler": "none",
        "max_concurrent": 2,
    },
}


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((folder / "runs/sweep").glob("*/trial.json")):
        found[path.parent.name] = json.loads(path.read_text())
    return found


@pytest.mark.timeout(900)
def test_killed_sweep_is_resumed_without_losing_or_repeating_a_trial(
    arrays_and_dataset: tuple[Any, Dataset],
    tiny_model: dict[str, Any],
    tmp_path: Path,
    start_job: Callable[..., JobProcess],
) -> None:
    settings = yaml.safe_dump({**SETTINGS, "model": tiny_model})
    (tmp_path / "sweep.yaml").write_text(settings)
    dataset = arrays_and_dataset[1].storage.location
    job = start_job("tune.py", "--config", "sweep.yaml", "--dataset", dataset, folder=tmp_path)
    job.wait_for(lambda: [r["state"] for r in records(tmp_path).values()].count("finished") >= 2)
    job.kill()
    before = records(tmp_path)
    finished = {name for name, record in before.items() if record["state"] == "finished"}
    assert 2 <= len(finished) < 6
    weights = {
        path: path.stat().st_mtime_ns
        for name in finished
        for path in (tmp_path / "runs/sweep" / name).glob("epoch-*/model.safetensors")
    }

    output = start_job("tune.py", "--sweep.resume", "sweep", folder=tmp_path).end()
    assert "Warning" not in output
    assert "Traceback" not in output
    after = records(tmp_path)
    assert sorted(after) == [f"{number:04d}" for number in range(6)]
    for name, record in after.items():
        assert record["state"] == "finished"
        assert sorted(record["scores"]) == ["1", "2", "3", "4"]
        if name in finished:
            assert record == before[name]
    best = {path for path in weights if path.exists()}
    assert {path.parts[-3] for path in best} == finished
    assert all(path.stat().st_mtime_ns == weights[path] for path in best)
    # Each trial once in the table, whose rows begin with the trial's number.
    rows = [line.split()[0] for line in output.splitlines() if "  finished  " in line]
    assert sorted(rows) == sorted(after)

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("giblet_ray")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 7
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "giblet_ray.trial" in run.data.tags:
            for key in ("val/pearson_mean", "step/loss"):
                steps = [m.step for m in client.get_metric_history(run.info.run_id, key)]
                assert len(steps) == len(set(steps)), key
            assert run.data.tags["giblet_ray.trial"] == str(int(run.info.run_name[-4:]))
