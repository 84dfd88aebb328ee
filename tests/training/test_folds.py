"""Folds: a run of each, in which every TR is test once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from giblet_ray.checkpoint.judged import Judged
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.judge.judge import judge_run
from giblet_ray.training.folds import fold_jobs, folds_in_words

ALL = {"split": {"folds": 3, "fold": "all"}, "modalities": ("text",)}


def test_every_scan_s_every_tr_is_judged_in_one_fold(
    tmp_path: Path,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> None:
    dataset_writer(tmp_path / "data", {"one": 150, "two": 131}, ("01", "02"))
    job = TrainJob(
        dataset=str(tmp_path / "data"),
        name="cv",
        data=ALL,
        model=tiny_model,
        train={"epochs": 1, "batch_trs": 64},
    )
    jobs = fold_jobs(job)
    assert [each.name for each in jobs] == ["cv-fold1", "cv-fold2", "cv-fold3"]
    storage, judged = Storage.at(str(tmp_path / "runs")), []
    for each in jobs:
        train_locally(each, tmp_path / "runs" / each.name)
        judged.append(judge_run(storage, each.name, None, (), lambda line: None))
    assert sum(each.n_trs for each in judged) == 2 * (150 + 131)


def test_one_fold_is_the_job_itself_and_all_are_summed_up() -> None:
    one = TrainJob(dataset="d", data={"split": {"folds": 3, "fold": 2}})
    assert fold_jobs(one) == [one]

    class Trained:
        def __init__(self, r: float) -> None:
            scores = {"pearson_mean": r, "pearson_median": r}
            self.judged = Judged(checkpoint="c", weights="w", name="test", n_trs=100, n_units=9,
                                 metrics=scores, subjects={"01": scores})  # fmt: skip

    said = folds_in_words([Trained(0.1), Trained(0.3)])  # type: ignore[list-item]
    assert said["test r, mean of folds"] == "0.2000"
    assert said["judged on"].startswith("200 TRs")


def test_a_sweep_over_all_folds_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"--data.split.fold all: trials are chosen by"):
        TuneJob(dataset="d", data=ALL)
