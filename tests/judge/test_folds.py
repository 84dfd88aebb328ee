"""Folds of one training, judged together: every TR once, by a model that was not fitted to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.errors import InputError
from giblet_ray.judge.evaluate import evaluate_run
from giblet_ray.judge.folds import check_folds, gathered_rows, score_rows, valid_units
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.permuted import from_permuted, permuted_trs
from giblet_ray.judge.rows import all_rows
from giblet_ray.judge.run_name import name_of
from giblet_ray.judge.runs import found_runs
from giblet_ray.training.folds import fold_jobs

FILMS = {"one": 200, "two": 180}


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> tuple[Path, dict[str, np.ndarray]]:
    """Three folds on a data set, and what was written there."""
    folder = tmp_path_factory.mktemp("cv")
    arrays = dataset_writer(folder / "data", FILMS, ("01", "02"))
    job = TrainJob(
        dataset=str(folder / "data"), name="cv", model=tiny_model,
        data={"modalities": ("audio", "text"), "split": {"folds": 3, "fold": "all"}},
        train={"epochs": 1, "batch_trs": 64},
    )  # fmt: skip
    for each in fold_jobs(job):
        train_locally(each, folder / "runs" / each.name)
    return folder, arrays


def opened(folder: Path) -> list[OpenedRun]:
    return [open_run(str(folder / f"runs/cv-fold{fold}")) for fold in (1, 2, 3)]


def test_trials_of_two_sweeps_have_names_of_their_own(
    trained: tuple[Path, dict[str, np.ndarray]],
) -> None:
    record = opened(trained[0])[0].checkpoint.record
    names = []
    for sweep in ("night", "day"):
        config = {**record.config, "name": "0003", "storage": {"path": f"/lab/runs/{sweep}"}}
        names.append(name_of(record.model_copy(update={"config": config})))
    assert names == ["night-0003", "day-0003"]
    assert name_of(record) == "cv-fold1"
    assert name_of(record, n_folds=3) == "cv"


def test_every_tr_is_judged_once_and_r_is_over_the_whole_scan(
    trained: tuple[Path, dict[str, np.ndarray]],
) -> None:
    folder, arrays = trained
    folds = opened(folder)
    rows = gathered_rows(folds)
    scores = score_rows(rows, valid_units(folds))
    for subject in ("01", "02"):
        expected = []
        for film, n_trs in FILMS.items():
            scan = ScanKey(subject, film)
            np.testing.assert_array_equal(rows[scan].tr_T, np.arange(n_trs))
            bold = arrays[folds[0].data.dataset.scans[scan].shard.path].astype(np.float64)
            predicted = np.full(bold.shape, np.nan)
            for fold in folds:
                of_fold = all_rows(fold)[scan]
                std_V = fold.std_SV[fold.scans.index(scan)]
                predicted[of_fold.tr_T] = np.asarray(of_fold.prediction_TV) * std_V
            r = [scipy.stats.pearsonr(predicted[:, v], bold[:, v])[0] for v in range(24)]
            expected.append(r)
            error = np.square(bold - bold.mean(0) - predicted).sum(0)
            r2_V = 1 - error / np.square(bold - bold.mean(0)).sum(0)
            one = score_rows({scan: rows[scan]}, valid_units(folds)).subjects[subject]
            np.testing.assert_allclose(one.r2_V, r2_V, atol=1e-5)
        np.testing.assert_allclose(
            scores.subjects[subject].pearson_V, np.mean(expected, 0), atol=1e-5
        )


def test_folds_are_evaluated_as_one_run_with_ridge_of_each_beside_them(
    trained: tuple[Path, dict[str, np.ndarray]], train_locally: Callable[..., Any], tmp_path: Path
) -> None:
    folder, _ = trained
    job = EvaluateJob(run=("cv",), storage={"path": str(folder / "runs")}, permutations=99,
                      resamples=100)  # fmt: skip

    def ridge(fold: OpenedRun, parts: tuple[str, ...]) -> OpenedRun:
        split = fold.checkpoint.record.config["data"]["split"]
        name = f"ridge-{split['fold']}"
        of_fold = TrainJob(
            dataset=str(folder / "data"), name=name, data={"modalities": parts, "split": split},
            model={"kind": "ridge", "n_iter": 1, "n_alphas": 3, "folds": 2},
        )  # fmt: skip
        train_locally(of_fold, tmp_path / name)
        return open_run(str(tmp_path / name))

    with found_runs(job) as found:
        evaluation = evaluate_run(found["cv"], job, lambda line: None, ridge)
    assert evaluation.name == "cv"
    assert evaluation.judged.name == "test_folds"
    assert evaluation.judged.n_trs == 2 * sum(FILMS.values())
    assert evaluation.interval.value == pytest.approx(
        evaluation.judged.metrics["pearson_mean"], abs=1e-6
    )
    assert evaluation.baseline is not None
    assert evaluation.baseline.name == "ridge-1, ridge-2, ridge-3"
    assert sum(map(len, evaluation.mean.stretches)) == sum(FILMS.values())
    said = evaluation.summary()["judged on"]
    assert said.startswith("760 TRs of 3 folds, each by a model that it did not train")
    told = evaluation.metrics()
    assert {"test_folds/pearson_mean", "test_folds/minus_ridge_p"} <= set(told)
    assert not any(name.startswith("test/") for name in told)


def test_no_offset_or_gain_of_a_scan_moves_the_score_of_fixed_predictions(
    trained: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = opened(trained[0])
    before = score_rows(gathered_rows(folds), valid_units(folds)).subjects["01"]
    scan = ScanKey("01", "one")
    for fold in folds:  # as they would be of 3 * BOLD + 500
        row = fold.scans.index(scan)
        fold.mean_SV[row] = 3 * fold.mean_SV[row] + 500
        fold.std_SV[row] = 3 * fold.std_SV[row]
    read = OpenedRun.z_scored

    def z_scored(fold: OpenedRun, span: Any, of: ScanKey) -> Any:
        if of != scan:
            return read(fold, span, of)
        row = fold.scans.index(scan)
        mean_V, std_V = fold.mean_SV[row].copy(), fold.std_SV[row].copy()
        fold.mean_SV[row], fold.std_SV[row] = (mean_V - 500) / 3, std_V / 3
        values = read(fold, span, of)
        fold.mean_SV[row], fold.std_SV[row] = mean_V, std_V
        return values

    monkeypatch.setattr(OpenedRun, "z_scored", z_scored)
    after = score_rows(gathered_rows(folds), valid_units(folds)).subjects["01"]
    np.testing.assert_allclose(after.pearson_V, before.pearson_V, atol=1e-5)
    np.testing.assert_allclose(after.r2_V, before.r2_V, atol=1e-4)


def test_folds_that_are_missing_or_not_of_one_training_are_named(
    trained: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    folder, _ = trained
    for fold in (1, 3):
        (tmp_path / f"cv-fold{fold}").symlink_to(folder / f"runs/cv-fold{fold}")
    job = EvaluateJob(run=("cv",), storage={"path": str(tmp_path)})
    said = "--run cv: of its 3 folds, cv-fold2 is not finished in"
    with pytest.raises(InputError, match=said), found_runs(job):
        pass
    folds = opened(folder)
    folds[1].checkpoint.record.config["data"]["modalities"] = ["audio"]
    with pytest.raises(InputError, match="runs cv-fold1 and cv-fold2: differ in their data, where"):
        check_folds(folds)


@dataclass(frozen=True)
class Disordered:
    """A model that is shown other values of one part than the data set holds."""

    encoder: Encoder
    part: str
    shown: Mapping[str, np.ndarray]

    def subject_index(self, subject: str) -> int | None:
        return self.encoder.subject_index(subject)

    def predict_bold(self, dataset: Dataset, span: Span, subject: int | None = None) -> Any:
        def read(seen: Span) -> dict[str, np.ndarray]:
            values = self.encoder.read_stimulus(dataset, seen)
            return {**values, self.part: self.shown[seen.stimulus][seen.start : seen.stop]}

        return self.encoder.predict_bold(dataset, span, subject, read)


def test_a_part_in_disorder_is_judged_over_all_folds_each_loaded_and_each_film_read_once(
    trained: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("giblet_ray.judge.permuted.N_ORDERS", n_orders := 3)
    folds, did = opened(trained[0]), []
    rows, valid = gathered_rows(folds), valid_units(folds)
    scores = score_rows(rows, valid).subjects
    expected_V = []
    for order in range(n_orders):

        def load(fold: OpenedRun, order: int = order) -> Disordered:
            films = permuted_trs(fold, 14, seed=order)
            shown = {film: trained[1][f"text/{film}.parquet"][trs] for film, trs in films.items()}
            return Disordered(fold.load(), "text", shown)

        found = score_rows(gathered_rows(folds, load=load), valid).subjects["01"]
        expected_V.append([found.r2_V, found.pearson_V])
    load_fold, read = OpenedRun.load, Dataset.read
    monkeypatch.setattr(OpenedRun, "load", lambda fold: did.append("load") or load_fold(fold))
    monkeypatch.setattr(Dataset, "read", lambda *what: did.append(what[2].subjects) or read(*what))
    partition = from_permuted(folds, rows, scores, 14, 0, lambda done: None)
    r2_V, pearson_V = np.mean(expected_V, axis=0)
    lost = partition.shares["01"][("text",)], partition.pearson["01"][("text",)]
    np.testing.assert_allclose(lost[0], scores["01"].r2_V - r2_V, atol=1e-6)
    np.testing.assert_allclose(lost[1], scores["01"].pearson_V - pearson_V, atol=1e-6)
    assert np.abs(lost[1]).max() > 1e-3
    assert did == ["load", (), ()] * 3  # a model, two films, and no BOLD
