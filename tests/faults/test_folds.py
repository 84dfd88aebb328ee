"""Folds side by side, stopped as a user and a scheduler do it, and started again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fault_cluster import assert_same_weights, last_step
from mlflow import MlflowClient
from processes import JobProcess

FOLDS = ("cv-fold1", "cv-fold2", "cv-fold3")
GROUPS: dict[str, Any] = {
    "name": "cv",
    "data": {"split": {"folds": 3, "fold": "all"}, "modalities": ["text"]},
    "train": {"epochs": 30, "batch_trs": 16, "checkpoint_every_steps": 5},
    "scaling": {"cpus_per_worker": 0.5},
    "tracking": {"log_model": False},
}


@pytest.mark.timeout(900)
def test_folds_that_are_stopped_go_on_to_the_numbers_of_folds_that_were_not(
    start_job: Callable[..., JobProcess],
    dataset_writer: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path: Path,
) -> None:
    """By Ctrl-C, and as `ray job stop` does it, while all of them train."""
    dataset_writer(tmp_path / "data", {"one": 150, "two": 131}, ("01", "02"))
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({**GROUPS, "model": tiny_model}))
    given = ["--config", tmp_path / "settings.yaml", "--dataset", tmp_path / "data"]
    runs = tmp_path / "stopped/runs"

    def start(folder: str = "stopped") -> JobProcess:
        return start_job("train.py", *given, folder=tmp_path / folder)

    def steps() -> list[int]:
        return [last_step(runs / name) for name in FOLDS]

    reached = 0
    for end in (JobProcess.interrupt, JobProcess.stop):
        job = start()
        job.wait_for(lambda least=reached: min(steps()) > least, "a step of each fold")
        reached = max(steps())
        end(job)
        output = job.end(130)
        assert output.splitlines()[-1] == "interrupted"
        for name in FOLDS:
            assert f"{name}: stopping: the same command goes on from the latest check" in output
        for words in ("Traceback", "Warning", "failed"):
            assert words not in output
        recorded = MlflowClient(f"sqlite:///{tmp_path}/stopped/mlflow.db").search_runs(["1"])
        assert [run.info.status for run in recorded] == ["KILLED"] * 3
    output = start().end()
    for name in FOLDS:
        assert f"{name}: continuing after epoch" in output
        assert f"{name}: epoch 30/30" in output
    start("whole").end()
    for name in FOLDS:
        assert_same_weights(tmp_path / "whole/runs" / name, runs / name)
