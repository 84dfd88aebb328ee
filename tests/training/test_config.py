"""Settings of a training that are refused before anything is started."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from giblet_ray.evaluation.score import MEASURED
from giblet_ray.training.config import TrainConfig


@pytest.mark.parametrize("measured", MEASURED)
def test_own_metric_by_the_name_of_a_measured_one_is_refused(measured: str) -> None:
    path = f"my_lab.metrics:{measured.removeprefix('val/')}"
    with pytest.raises(ValidationError, match=rf"{path} would be logged as {measured}, as the one"):
        TrainConfig(metrics=("my_lab.metrics:spearman", path))


def test_two_metrics_of_one_name_are_refused_by_both_paths() -> None:
    paths = ("one.lab:spearman", "one.lab:kendall", "other.lab:spearman")
    reason = "other.lab:spearman would be logged as val/spearman, as one.lab:spearman is"
    with pytest.raises(ValidationError, match=reason):
        TrainConfig(metrics=paths)
    assert TrainConfig(metrics=paths[:2], score="val/kendall").metrics == paths[:2]
