"""``--preflight`` of what reads records: what would be read and fitted, without doing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.preflight.records import preflight_evaluation


def test_an_evaluation_says_how_many_models_it_would_fit(
    arrays_and_dataset: tuple[Any, Dataset],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path: Path,
) -> None:
    where = arrays_and_dataset[1].storage.location
    for name, parts in (("first", ("video", "audio", "text")), ("words", ("text",))):
        job = TrainJob(
            dataset=where, name=name, model=tiny_model, data={"modalities": parts},
            train={"epochs": 1, "batch_trs": 64},
        )  # fmt: skip
        train_locally(job, tmp_path / name)
    asked: dict[str, Any] = {"partition": "subsets", "storage": {"path": str(tmp_path)}}
    lines: list[str] = []
    preflight_evaluation(EvaluateJob(run=("first",), **asked), lines.append)
    said = "\n".join(lines)
    assert "6 fits of banded ridge on fewer parts, each kept as a run and not done again" in said
    assert {path.name for path in tmp_path.iterdir()} == {"first", "words"}
    with pytest.raises(InputError, match="--partition subsets: run words sees text alone"):
        preflight_evaluation(EvaluateJob(run=("words",), **asked), lines.append)
