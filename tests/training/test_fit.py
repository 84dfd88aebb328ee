"""A run of a model that is fitted at once: ridge, through the data set, the checkpoint and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from giblet_ray.checkpoint.store import best_checkpoint, latest_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.training.data import plan_data
from giblet_ray.training.finished import is_finished
from giblet_ray.training.identity import check_batch

RIDGE = ["--model.kind", "ridge", "--model.n_iter", "4"]


@pytest.fixture(scope="module")
def run(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    train_locally: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, TrainJob, Any]:
    """A run as a command line asks for it; its folder, its job and what it told."""
    folder = tmp_path_factory.mktemp("ridge") / "run"
    job = parse_job(TrainJob, ["--dataset", arrays_and_dataset[1].storage.location, *RIDGE])
    return folder, job, train_locally(job, folder)


def rows_of(arrays: dict[str, np.ndarray], film: str) -> dict[str, np.ndarray]:
    return {part: arrays[f"{part}/{film}.parquet"] for part in ("frames", "codes", "text")}


def test_a_run_is_one_epoch_with_its_scores_and_a_checkpoint(
    run: tuple[Path, TrainJob, Any],
) -> None:
    _, job, link = run
    (report,) = link.reports
    assert report["epoch"] == 1
    assert report["val/pearson_mean"] > 0.3  # of BOLD that follows the film
    assert report["train/loss"] < report["val/loss"]
    assert link.points == [
        (1, {name: link.points[0][1][name] for name in report if name != "epoch"})
    ]
    sizes = "23, codes 40, text 40 numbers, at 9 delays each"
    assert sum(sizes in line for line in link.lines) == 1  # between lines of how far it is
    assert link.lines[-1].startswith("epoch 1/1")
    record = latest_record(*link.place)
    assert record is not None
    assert record.score == report["val/pearson_mean"]
    assert is_finished(record.position, job.train)


def test_codes_may_be_read_as_the_codec_reads_them(
    run: tuple[Path, TrainJob, Any],
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tmp_path: Path,
) -> None:
    codebooks = np.random.default_rng(0).normal(size=(4, 1024, 128)).astype(np.float32)
    dataset_writer(tmp_path / "data", {"one": 150}, ("01",), codebooks=codebooks)
    words = [*RIDGE, "--model.codes", "codebooks", "--data.modalities", "audio"]
    job = parse_job(TrainJob, ["--dataset", str(tmp_path / "data"), *words])
    link = train_locally(job, tmp_path / "run")
    assert link.reports[0]["val/pearson_mean"] > 0.1  # codes alone
    vectors = Encoder.load(tmp_path / "run").model.vectors["codes"]  # type: ignore[index]
    np.testing.assert_array_equal(vectors.codebooks_CE, codebooks.reshape(-1, 128))
    without = parse_job(TrainJob, ["--dataset", run[1].dataset, *words])
    with pytest.raises(InputError, match="codes: the data set keeps no codebooks of it; run"):
        train_locally(without, tmp_path / "other")


def test_a_finished_run_is_not_fitted_again(
    run: tuple[Path, TrainJob, Any], train_locally: Callable[..., Any]
) -> None:
    folder, job, _ = run
    again = train_locally(job, folder)
    assert (again.reports, again.lines) == ([], [])
    other = job.model_copy(update={"model": job.model.model_copy(update={"seed": 9})})
    with pytest.raises(InputError, match=r"--model.seed is 9, but run .* was started with 0"):
        train_locally(other, folder)


def test_its_score_is_that_of_what_its_checkpoint_predicts(
    run: tuple[Path, TrainJob, Any], arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset]
) -> None:
    folder, job, link = run
    arrays, dataset = arrays_and_dataset
    encoder = Encoder.load(folder, dataset)
    data = plan_data(job, dataset)
    wanted = []  # of each scan, and there are two of each subject
    for subject in ("01", "02"):
        for film in ("one", "two"):
            whole = encoder.predict_trs(rows_of(arrays, film), encoder.subject_index(subject))
            bold = arrays[f"bold/{subject}/{film}.parquet"]
            spans = [span for span in data.split.val if span.stimulus == film]
            held_out = np.concatenate([np.r_[span.start : span.stop] for span in spans])
            p, t = whole[held_out], bold[held_out]
            wanted.append([np.corrcoef(p[:, unit], t[:, unit])[0, 1] for unit in range(p.shape[1])])
    assert link.reports[0]["val/pearson_mean"] == pytest.approx(np.mean(wanted), abs=1e-6)


def test_a_film_is_predicted_in_pieces_as_it_is_whole(
    run: tuple[Path, TrainJob, Any], arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset]
) -> None:
    encoder = Encoder.load(run[0])
    rows = rows_of(arrays_and_dataset[0], "two")
    whole = encoder.predict("01", **rows)
    assert whole.shape == (83, 24)
    np.testing.assert_allclose(encoder.predict_trs(rows, 0, at_a_time=7), whole, 1e-5, 1e-5)
    np.testing.assert_allclose(encoder.predict_trs(rows, 0, at_a_time=1), whole, 1e-5, 1e-5)


def test_a_checkpoint_holds_what_new_films_are_predicted_from(
    run: tuple[Path, TrainJob, Any],
) -> None:
    folder, _, _ = run
    best = best_checkpoint(Storage.at(str(folder.parent)), folder.name)
    assert best is not None
    assert "optimizer-model.safetensors" not in best.record.checksums
    weights = Encoder.load(folder).model.state_dict()
    assert weights["weights.1"].shape == (24, 9, 103)
    assert weights["vectors.codes.basis_DF"].shape == (4 * 1024, 40)
    assert weights["vectors.text.mean_D"].shape == (1024,)


def test_what_is_held_out_changes_no_number_of_the_fit(
    run: tuple[Path, TrainJob, Any],
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tmp_path: Path,
) -> None:
    folder, job, _ = run
    trained = plan_data(job).split.train

    def change(scan: ScanKey, bold: np.ndarray) -> np.ndarray:
        others = np.ones(len(bold), bool)
        for span in trained:
            if span.stimulus == scan.stimulus:
                others[span.start : span.stop] = False
        bold[others] = 7 * bold[others] - 3000
        return bold

    dataset_writer(tmp_path / "changed", {"one": 117, "two": 83}, ("01", "02"), change_bold=change)
    other = job.model_copy(update={"dataset": str(tmp_path / "changed")})
    train_locally(other, tmp_path / "run")
    mine, theirs = (Encoder.load(each).model.state_dict() for each in (folder, tmp_path / "run"))
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--data.lag_seconds", "3"],
            r"lag_seconds is 3.0; with model.kind ridge it is 0.0",
        ),
        (["--train.epochs", "9"], r"--train: epochs is 9; with model.kind ridge it is 1: leave it"),
        (["--model.delays_seconds", "12,0"], r"--model: delays_seconds is 12,0; a rising pair"),
        (["--model.n_iter", "0"], r"--model.n_iter is '0': should be greater than or equal to 1"),
        (["--model.dropout", "0.1"], r"--model.dropout: no such setting"),
    ],
)
def test_settings_that_mean_nothing_to_it_are_refused(given: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_job(TrainJob, ["--dataset", "d", "--model.kind", "ridge", *given])


def test_it_is_fitted_by_one_worker(run: tuple[Path, TrainJob, Any]) -> None:
    job = parse_job(TrainJob, ["--dataset", run[1].dataset, *RIDGE, "--scaling.num_workers", "2"])
    with pytest.raises(InputError, match=r"--scaling.num_workers 2: ridge is fitted by one worker"):
        check_batch(job, plan_data(job))


def test_delays_that_reach_over_the_gap_are_refused(run: tuple[Path, TrainJob, Any]) -> None:
    job = parse_job(
        TrainJob, ["--dataset", run[1].dataset, *RIDGE, "--model.delays_seconds", "0,30"]
    )
    with pytest.raises(InputError, match=r"the model sees 20 TRs before the one that it predicts"):
        plan_data(job)
