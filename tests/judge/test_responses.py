"""What a model with haemodynamic memory has learned is told of each subject's own units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from local_training import LocalTraining
from three_people import PACKAGES, UNITS, make_people, people_job

from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.report.methods import Code
from giblet_ray.judge.report.report import make_report
from giblet_ray.judge.responses import responses_of
from giblet_ray.judge.write import write_evaluation

MODEL: dict[str, Any] = {
    **{"kind": "multimodal", "inputs": "vectors", "norm": "none", "trunk_dims": ()},
    **{"bottleneck_dim": 5, "memory": "hrf", "context_seconds": 9.0, "heads": "subject"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on three people: with a linear head, without and with a lag, and with a full head."""
    folder = tmp_path_factory.mktemp("lab")
    make_people(folder / "people", n_trs=200)
    runs = (("linear", "linear", 0), ("late", "linear", 3), ("full", "full", 0))
    for name, head, lag_seconds in runs:
        groups = {
            "model": {**MODEL, "head": head, "head_dim": 8},
            "data": {"lag_seconds": lag_seconds},
            "train": {"epochs": 1, "batch_trs": 24},
        }
        job = TrainJob.model_validate(people_job(folder / "people", **groups))
        LocalTraining(job).train(folder / "runs" / name)
    return folder


def test_each_subject_has_the_responses_of_its_own_units(lab: Path) -> None:
    responses = responses_of(open_run(str(lab / "runs/linear")), UNITS)
    assert {name: len(of.peak_V) for name, of in responses.items()} == UNITS
    for of in responses.values():
        np.testing.assert_allclose(np.square(of.kernel_VL).sum(1), 1, atol=1e-6)
        assert of.seconds.tolist() == [1.5 * lag for lag in range(7)]


def test_the_lag_of_a_run_is_part_of_its_delays(lab: Path) -> None:
    (late,) = responses_of(open_run(str(lab / "runs/late")), ["03"]).values()
    assert late.seconds.tolist() == [3 + 1.5 * lag for lag in range(7)]


def test_a_subject_who_is_not_judged_has_none(lab: Path) -> None:
    assert list(responses_of(open_run(str(lab / "runs/linear")), ["03"])) == ["03"]


def test_a_hidden_layer_before_the_units_leaves_none_to_read(lab: Path) -> None:
    assert responses_of(open_run(str(lab / "runs/full")), UNITS) == {}


def test_they_are_written_mapped_and_drawn(lab: Path, tmp_path: Path) -> None:
    job = EvaluateJob(
        run=("linear",), packages=PACKAGES, permutations=99, resamples=100, ridge=False
    )
    evaluation = evaluate_run([str(lab / "runs/linear")], job, print, None)
    write_evaluation(evaluation, str(tmp_path))
    found = pq.read_table(tmp_path / "units.parquet").to_pydict()["response_peak_seconds"]
    peaks = [of.peak_V for of in evaluation.responses.values()]
    np.testing.assert_array_equal(found, np.concatenate(peaks))
    assert all((tmp_path / f"peak-{name}.nii.gz").is_file() for name in UNITS)
    assert evaluation.metrics()["responses/03/peak_seconds_median"] == np.median(peaks[2])
    page, _ = make_report(evaluation, job, Code("", "", {}, "none"))
    assert "Learned responses" in page
