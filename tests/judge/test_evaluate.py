"""What is said of runs on test TRs: written in the scans' space, logged, and beside ridge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats

from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.evaluate import evaluate_run, find_ceilings
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.runs import found_runs
from giblet_ray.judge.write import draw_evaluation, write_evaluation
from giblet_ray.models.ridge.config import RidgeConfig


@pytest.fixture(scope="module")
def lab(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> Path:
    """A data set of two repeats, long enough to be shifted, an encoder and ridge on it."""
    folder = tmp_path_factory.mktemp("lab")
    mask = np.zeros((4, 5, 3), bool)
    mask.flat[np.random.default_rng(0).permutation(60)[:24]] = True
    dataset_writer(folder / "data", {"one": 240, "two": 150}, ("01", "02"), repeats=2, mask=mask)
    for name, model, more in (
        ("first", tiny_model, {"data": {"modalities": ("audio", "text")}}),
        ("ridge", RidgeConfig(n_iter=3, n_alphas=5), {"data": {"modalities": ("audio", "text"),
                                                               "lag_seconds": 0.0}}),
    ):  # fmt: skip
        train = {"epochs": 1 if name == "ridge" else 4, "batch_size": 64}
        job = TrainJob(
            dataset=str(folder / "data"), name=name, model=model, train=train,
            optimizer={"lr": 5e-3}, **more,
        )  # fmt: skip
        train_locally(job, folder / "runs" / name)
    return folder


@pytest.fixture(scope="module")
def evaluation(lab: Path) -> Any:
    job = EvaluateJob(run=("first",), permutations=199, resamples=200)
    lines: list[str] = []
    return evaluate_run(
        str(lab / "runs/first"), job, lines.append, lambda opened: str(lab / "runs/ridge")
    )


def test_a_signal_is_told_from_chance_and_stands_beside_ridge(evaluation: Any) -> None:
    interval, null = evaluation.interval, evaluation.null
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(evaluation.judged.metrics["pearson_mean"], abs=1e-6)
    assert interval.value > null.percentile()
    assert evaluation.beside.difference == pytest.approx(
        interval.value - evaluation.baseline.interval.value, abs=1e-9
    )
    assert evaluation.baseline.opened.checkpoint.record.config["model"]["kind"] == "ridge"
    assert evaluation.baseline.judged.n_trs == evaluation.judged.n_trs
    for of in evaluation.subjects.values():
        np.testing.assert_allclose(of.q_V, scipy.stats.false_discovery_control(of.p_V), atol=1e-12)
        assert (of.q_V >= of.p_V).all()
    said = evaluation.summary()
    assert "blocks of 14 TRs or more" in said["test r, mean"]
    assert said["minus ridge"].endswith("(paired, two-sided)")


def test_it_is_written_unit_by_unit_and_in_the_scans_space(
    evaluation: Any, lab: Path, tmp_path: Path
) -> None:
    write_evaluation(evaluation, draw_evaluation(evaluation), str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out/units.parquet").to_pandas()
    assert list(table.columns) == ["subject", "unit", "pearson", "r2", "p", "q"]
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
    assert scores["test/minus_ridge"] == evaluation.beside.difference
    assert (tmp_path / "out/units.png").stat().st_size > 10_000


@pytest.mark.parametrize("how", ["repeats", "split_half"])
def test_a_ceiling_from_repeats_is_near_what_was_made(lab: Path, how: str) -> None:
    """Signal of SD 10 * |mixing| / 2 beside noise of SD 5."""
    opened = open_run(str(lab / "runs/first"))
    ceilings = find_ceilings(opened, how, 14, 0)
    mixing = np.random.default_rng(0).normal(size=(4, 24))
    signal = 25 * np.square(mixing).sum(axis=0)
    true_V = np.sqrt(signal / (signal + 25))
    for subject in ("01", "02"):
        assert np.abs(ceilings[subject].ceiling_V - true_V).mean() < 0.1
        assert (ceilings[subject].p_V <= 0.05).mean() > 0.7


def test_a_known_ceiling_divides_and_one_of_other_units_is_refused(
    lab: Path, tmp_path: Path
) -> None:
    opened = open_run(str(lab / "runs/first"))
    np.save(tmp_path / "known.npy", np.full(24, 0.5))
    ceiling = find_ceilings(opened, str(tmp_path / "known.npy"), 14, 0)["01"]
    np.testing.assert_array_equal(ceiling.normalised(np.full(24, 0.25)), np.full(24, 0.5))
    np.save(tmp_path / "other.npy", np.full(25, 0.5))
    with pytest.raises(InputError, match=r"other.npy: found shape \(25,\); the run predicts 24"):
        find_ceilings(opened, str(tmp_path / "other.npy"), 14, 0)
    np.save(tmp_path / "more.npy", np.full(24, 1.5))
    with pytest.raises(InputError, match=r"more.npy: found 1.5 to 1.5; ceilings of r, 0 to 1"):
        find_ceilings(opened, str(tmp_path / "more.npy"), 14, 0)
    with pytest.raises(InputError, match=r"absent.npy: not a readable .npy file"):
        find_ceilings(opened, str(tmp_path / "absent.npy"), 14, 0)


def test_runs_are_found_by_name_and_by_folder(lab: Path, tmp_path: Path) -> None:
    job = EvaluateJob(
        run=("first", str(lab / "runs/ridge")),
        storage={"path": str(lab / "runs")},
        tracking={"uri": f"sqlite:///{tmp_path}/none.db"},
    )
    with found_runs(job) as found:
        assert [Storage.at(folder).location for folder in found.values()] == [
            str(lab / "runs/first"),
            str(lab / "runs/ridge"),
        ]
    absent = job.model_copy(update={"run": ("frist",)})
    with pytest.raises(InputError, match=r"none\.db"), found_runs(absent):
        pass
