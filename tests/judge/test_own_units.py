"""Runs on people whose units differ: each is judged, drawn, compared and written by their own."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from local_training import LocalTraining
from three_people import PACKAGES, UNITS, make_people, people_job

from giblet_ray.comparison.heldout import TrainedRun, common_trs, score_run
from giblet_ray.comparison.scores import read_voxel_pearson
from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.errors import InputError
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.folds import gathered_rows, score_rows, valid_units
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.permuted import from_permuted
from giblet_ray.judge.regions import read_atlas
from giblet_ray.judge.report.methods import Code
from giblet_ray.judge.report.report import make_report
from giblet_ray.judge.write import write_evaluation
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.training.folds import fold_jobs


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three people, a run on it and ridge."""
    folder = tmp_path_factory.mktemp("lab")
    make_people(folder / "people", n_trs=200)
    settings = people_job(folder / "people", train={"batch_trs": 64})
    ridge = RidgeConfig(n_iter=3, n_alphas=5, components={"text": 10})
    for name, more in (("first", {}), ("ridge", {"model": ridge, "train": {"epochs": 1}})):
        LocalTraining(TrainJob.model_validate({**settings, **more})).train(folder / "runs" / name)
    return folder


def job_of(lab: Path, **settings: Any) -> EvaluateJob:
    return EvaluateJob(
        run=("first",), packages=PACKAGES, permutations=99, resamples=100, **settings
    )


@pytest.fixture(scope="module")
def evaluation(lab: Path) -> Any:
    def ridge(opened: OpenedRun, parts: tuple[str, ...]) -> OpenedRun:
        return open_run(str(lab / "runs/ridge"))

    return evaluate_run([str(lab / "runs/first")], job_of(lab), print, ridge)


def test_every_number_is_of_a_subjects_own_units(evaluation: Any) -> None:
    for name, n_units in UNITS.items():
        of = evaluation.subjects[name]
        assert of.units_V.tolist() == list(range(n_units))
        assert len(of.p_V) == len(of.pearson_V) == n_units
        assert evaluation.baseline.pearson_V[name].shape == (n_units,)
    own = [np.nanmean(of.pearson_V) for of in evaluation.subjects.values()]
    assert evaluation.judged.metrics["pearson_mean"] == pytest.approx(np.mean(own))
    assert evaluation.interval.value == pytest.approx(np.mean(own))
    assert evaluation.null.null_VP.shape == (sum(UNITS.values()), 99)
    assert evaluation.group is None


def test_maps_and_tables_are_in_each_subjects_own_space(
    lab: Path, evaluation: Any, tmp_path: Path
) -> None:
    spaces = evaluation.opened.spaces
    for name, space in spaces.items():
        labels_XYZ = np.where(space.inside, 1 + np.indices(space.inside.shape)[2] % 2, 0)
        atlas = nibabel.Nifti1Image(labels_XYZ.astype(np.uint8), space.affine)
        nibabel.save(atlas, tmp_path / f"of-{name}.nii.gz")
    regions = read_atlas(spaces, f"{tmp_path}/of-{{subject}}.nii.gz", None)
    write_evaluation(replace(evaluation, regions=regions), str(tmp_path))
    with (tmp_path / "regions.csv").open() as lines:
        of_regions = list(csv.DictReader(lines))
    for name, n_units in UNITS.items():
        mine = [int(row["units"]) for row in of_regions if row["subject"] == name]
        assert len(mine) == 2
        assert sum(mine) == n_units
    table = pq.read_table(tmp_path / "units.parquet").to_pydict()
    assert {name: table["subject"].count(name) for name in UNITS} == UNITS
    for number, (name, n_units) in enumerate(UNITS.items()):
        image = nibabel.load(tmp_path / f"r-{name}.nii.gz")
        assert image.shape[:3] == (8 + number, 9, 8)
        inside = evaluation.opened.spaces[name].inside
        r_V = np.asarray(image.dataobj).reshape(inside.shape)[inside]
        np.testing.assert_allclose(r_V, evaluation.subjects[name].pearson_V, atol=1e-6)
        assert inside.sum() == n_units
    page, pictures = make_report(evaluation, job_of(lab), Code("", "", {}, ""))
    assert "50 of 01, 70 of 02, 400 of 03 units of each subject were predicted" in page
    assert {"units", "chance"} <= {picture.name.removesuffix(".png") for picture in pictures}


@pytest.mark.parametrize("ceiling", ["subjects", "known.npy"])
def test_what_subjects_share_bounds_no_units_of_their_own(lab: Path, ceiling: str) -> None:
    job = job_of(lab, ceiling=ceiling)
    with pytest.raises(InputError, match=rf"--ceiling {ceiling}: is of units that all subjects"):
        evaluate_run([str(lab / "runs/first")], job, print, None)


def test_runs_are_compared_over_the_units_of_all(lab: Path) -> None:
    opened = open_run(str(lab / "runs/first"), packages=PACKAGES)
    run: Any = None  # what MLflow has of it is not asked for
    trained = TrainedRun(**vars(opened), run=run)
    scored = score_run(trained, common_trs([trained]))
    assert scored.pearson_V.shape == (sum(UNITS.values()),)
    recorded_V = read_voxel_pearson(str(lab / "runs/first"))
    np.testing.assert_allclose(scored.pearson_V, recorded_V, atol=1e-5)
    assert scored.mean.value == pytest.approx(opened.checkpoint.record.score, abs=1e-5)


def test_a_part_in_disorder_is_judged_over_folds_by_each_subjects_own_units(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("giblet_ray.judge.permuted.N_ORDERS", 2)
    settings = people_job(lab / "people", train={"epochs": 1, "batch_trs": 64})
    settings["data"] = {"modalities": ["text"], "split": {"folds": 3, "fold": "all"}}
    settings["model"] = RidgeConfig(n_iter=2, n_alphas=3, components={"text": 5})
    folds = []
    for each in fold_jobs(TrainJob.model_validate({**settings, "name": "cv"})):
        LocalTraining(each).train(tmp_path / each.name)
        folds.append(open_run(str(tmp_path / each.name), packages=PACKAGES))
    rows = gathered_rows(folds)
    scores = score_rows(rows, valid_units(folds)).subjects
    partition = from_permuted(folds, rows, scores, 14, 0, lambda done: None)
    for name, n_units in UNITS.items():
        lost_V = partition.pearson[name][("text",)]
        assert lost_V.shape == (n_units,)
        # Without its only part in order, next to nothing is left.
        left = np.nanmean(scores[name].pearson_V - lost_V)
        assert abs(left) < 0.5 * np.nanmean(scores[name].pearson_V)
