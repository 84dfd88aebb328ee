"""Folds on a real Ray cluster: side by side over one copy of the data, each as it is alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.judged import read_judged
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.config import TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.judge import judge_run
from giblet_ray.training.config import StorageConfig
from giblet_ray.training.folds import fit_folds, fold_jobs
from giblet_ray.training.trainer import fit


def no_check(*training: Any) -> None:
    """Take any training."""


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_folds_side_by_side_are_those_alone_and_one_that_fails_stops_no_other(
    dataset_writer: Callable[..., Any], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    dataset_writer(tmp_path / "data", {"one": 150, "two": 131}, ("01", "02"))
    job = TrainJob(
        dataset=str(tmp_path / "data"),
        name="cv",
        data={"split": {"folds": 3, "fold": "all"}, "modalities": ("text",)},
        model=tiny_model,
        train={"epochs": 2, "batch_trs": 64},
        storage={"path": str(tmp_path / "runs")},
        tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db", "log_model": False},
    )
    lines: list[str] = []
    ended = []
    folds = fit_folds(job, lines.append, no_check, judge_run)
    with claimed(str(tmp_path / "runs/cv-fold2"), "--name"):
        ended += [next(folds)[0], next(folds)[0]]
        with pytest.raises(InputError, match=r"1 of 3 folds failed: cv-fold2: .*another job works"):
            next(folds)
    assert sorted(ended) == ["cv-fold1", "cv-fold3"]
    assert "3 folds, 3 at a time" in lines
    assert any(line.startswith("cv-fold2: failed: ") for line in lines)
    assert sum(line.startswith("reading ") for line in lines) == 1
    for fold in (1, 3):
        assert any(line.startswith(f"cv-fold{fold}: epoch 2/2") for line in lines)

    lines.clear()
    again = dict(fit_folds(job, lines.append, no_check, judge_run))
    finished = {name for name, trained in again.items() if trained.already_finished}
    assert finished == {"cv-fold1", "cv-fold3"}
    assert len(again) == 3

    each = fold_jobs(job)[0]
    place = StorageConfig(path=str(tmp_path / "alone"))
    fit(each.model_copy(update={"storage": place}), lines.append, judge=judge_run)
    beside, alone = (
        find_checkpoint(str(tmp_path / where / each.name)).record for where in ("runs", "alone")
    )
    assert beside.checksums == alone.checksums
    assert beside.score == alone.score
    tests = [
        read_judged(Storage.at(str(tmp_path / where)), each.name) for where in ("runs", "alone")
    ]
    assert tests[0] == tests[1] is not None
