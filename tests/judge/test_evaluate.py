"""What is said of runs on test TRs: written in the scans' space, logged, and beside ridge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats

from giblet_ray.config import EvaluateJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.runs import evaluate_all, found_runs
from giblet_ray.judge.write import write_evaluation
from giblet_ray.preflight.records import preflight_evaluation


def test_a_signal_is_told_from_chance_and_stands_beside_ridge(evaluation: Any) -> None:
    interval, null = evaluation.interval, evaluation.null
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(evaluation.judged.metrics["pearson_mean"], abs=1e-6)
    assert interval.value > null.percentile()
    assert evaluation.baseline.beside.difference == pytest.approx(
        interval.value - evaluation.baseline.mean.value, abs=1e-9
    )
    assert evaluation.baseline.name == "ridge"
    ridge = [each.mean() for each in evaluation.baseline.pearson_V.values()]
    assert np.mean(ridge) == pytest.approx(evaluation.baseline.mean.value, abs=1e-6)
    for of in evaluation.subjects.values():
        np.testing.assert_allclose(of.q_V, scipy.stats.false_discovery_control(of.p_V), atol=1e-12)
        assert (of.q_V >= of.p_V).all()
    said = evaluation.summary()
    assert "blocks of 14 TRs or more" in said["test r, mean"]
    assert said["minus ridge"].endswith("degrees of freedom)")


def test_what_its_settings_reach_with_other_seeds_stands_beside_the_run(evaluation: Any) -> None:
    said, told = evaluation.summary(), evaluation.metrics()
    assert said["its settings"] == (
        "validation Pearson r (selected on) mean 0.2500, SD 0.0707 over 2 seeds, of which this is "
        "the best"
    )
    assert told["seeds/val/pearson_mean"] == pytest.approx(0.25)
    assert told["seeds/n"] == 2


def test_one_tr_of_nan_is_not_judged_and_costs_no_unit(evaluation: Any) -> None:
    n_trs = 4 * sum(len(span) for span in evaluation.opened.data.split.test)  # scans of a film
    assert evaluation.judged.n_trs == n_trs - 1
    for of in evaluation.subjects.values():
        assert np.isfinite([of.pearson_V, of.r2_V, of.p_V]).all()


def test_what_subjects_share_is_told_apart_from_what_is_their_own(evaluation: Any) -> None:
    said, told = evaluation.summary(), evaluation.metrics()
    low, high = told["test/shared_ceiling_low"], told["test/shared_ceiling_high"]
    assert low < high
    assert said["shared ceiling"].startswith(f"r {low:.4f} to {high:.4f}, of a subject's BOLD")
    assert "of the ceiling" not in said
    assert "test/pearson_of_ceiling" not in told
    group = told["test_group/pearson_mean"]
    assert group > told["test/pearson_mean"]
    assert said["test_group r, mean"].startswith(f"{group:.4f}, of the mean BOLD of 2")
    assert said["test_group r, mean"].endswith("no subject's score")


def test_it_is_written_unit_by_unit_and_in_the_scans_space(
    evaluation: Any, lab: Path, tmp_path: Path
) -> None:
    write_evaluation(evaluation, str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out/units.parquet").to_pandas()
    scores = ["subject", "unit", "pearson", "r2", "p", "q"]
    assert list(table.columns) == [*scores, "shared_ceiling_low", "shared_ceiling_high"]
    assert len(table) == 48
    mask = nibabel.Nifti1Image.from_bytes(
        __import__("gzip").decompress(Dataset.open(str(lab / "data")).blob("blobs/mask.nii.gz"))
    ).get_fdata().astype(bool)  # fmt: skip
    for subject, of in evaluation.subjects.items():
        image = nibabel.load(tmp_path / f"out/r-{subject}.nii.gz")
        values = np.asarray(image.dataobj)[..., 0]  # type: ignore[attr-defined]
        np.testing.assert_allclose(values[mask], of.pearson_V, atol=1e-6)
        assert np.isnan(values[~mask]).all() or (values[~mask] == 0).all()
        mine = table[table.subject == subject]
        np.testing.assert_array_equal(mine.pearson, of.pearson_V)
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores == evaluation.metrics()
    assert scores["test/minus_ridge"] == evaluation.baseline.beside.difference


def test_runs_of_one_name_do_not_write_over_each_other(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab / "runs/ridge", tmp_path / "ridge")
    wanted = "ridge", str(tmp_path / "ridge")
    job = EvaluateJob(run=wanted, storage={"path": str(lab / "runs")}, ridge=False, out="scores")
    said = (
        rf"^--run ridge {wanted[1]}: both are called ridge, and would be written to scores/ridge; "
        "evaluate each by a command with an --out of its own$"
    )
    lines: list[str] = []
    with pytest.raises(InputError, match=said):
        next(evaluate_all(job, lines.append))
    with pytest.raises(InputError, match=said):
        preflight_evaluation(job, lines.append)
    assert not lines


def test_runs_are_found_by_name_and_by_folder(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = EvaluateJob(
        run=("first", str(lab / "runs/ridge")),
        storage={"path": str(lab / "runs")},
        tracking={"uri": f"sqlite:///{tmp_path}/none.db"},
    )
    with found_runs(job) as found:
        assert [Storage.at(folder).location for (folder,) in found.values()] == [
            str(lab / "runs/first"),
            str(lab / "runs/ridge"),
        ]
    (lab / "runs/begun").mkdir(exist_ok=True)
    begun = job.model_copy(update={"run": ("begun",)})
    said = "--run begun: .*/begun has no checkpoint; a run has one after its first epoch"
    with pytest.raises(InputError, match=said), found_runs(begun):
        pass
    absent = job.model_copy(update={"run": ("frist",)})
    with pytest.raises(InputError, match=r"none\.db"), found_runs(absent):
        pass

    def failing(self: Storage, name: str) -> bytes:
        raise StorageError(f"{self.describe(name)}: given up")

    monkeypatch.setattr(Storage, "read", failing)
    with pytest.raises(StorageError, match=r"record.json: given up"), found_runs(job):
        pass
