"""The row groups that stand for a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.preflight.sample import SampleLoader, choose_sample
from giblet_ray.training.data import plan_data


def plan(dataset: str, tiny_model: dict[str, Any], **data: Any) -> DataView:
    return plan_data(TrainJob(dataset=dataset, data=data, model=tiny_model))


@pytest.mark.parametrize("window", [1, 3])
def test_batches_hold_the_rows_of_their_windows(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    tiny_model: dict[str, Any],
    window: int,
) -> None:
    arrays, dataset = arrays_and_dataset
    data = plan(dataset.storage.location, tiny_model, window=window, lag_seconds=6)
    sample = choose_sample(data, n_train=20, n_val=5, seed=3)
    columns = sample.selection.value_types(dataset)
    how = (data.values, data.scans, columns, data.lag_trs, data.context_trs)
    loader = SampleLoader(sample, sample.read(data), *how)
    windows = sample.train[np.random.default_rng(0).permutation(len(sample.train))]
    (batch,) = loader.batches([windows])
    of_windows = zip(windows.scan, windows.start, windows.length, strict=True)
    for row, (scan, start, length) in enumerate(of_windows):
        subject, stimulus = data.scans[scan].subject, data.scans[scan].stimulus
        trs = slice(start - 4, start - 4 + length)
        later = slice(start, start + length)
        for part in ("frames", "text"):
            expected = arrays[f"{part}/{stimulus}.parquet"][trs]
            np.testing.assert_array_equal(batch.values[part][row, :length].numpy(), expected)
        codes = arrays[f"codes/{stimulus}.parquet"][trs, :2]
        np.testing.assert_array_equal(batch.values["codes"][row, :length].numpy(), codes)
        bold = arrays[f"bold/{subject}/{stimulus}.parquet"][later]
        np.testing.assert_array_equal(batch.values["bold"][row, :length].numpy(), bold)


def test_sample_is_small_and_still_holds_every_subject(
    dataset_writer: Callable[..., Any], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    """Subject 02 has seen one of six stimuli."""
    stimuli = {f"film{i}": 90 + i for i in range(6)}
    unseen = tuple(("02", name) for name in list(stimuli)[1:])
    dataset_writer(tmp_path / "data", stimuli, ("01", "02"), unseen=unseen)
    for seed in range(8):
        data = plan(str(tmp_path / "data"), tiny_model)
        sample = choose_sample(data, n_train=4, n_val=2, seed=seed)
        subjects = {data.scans[scan].subject for scan in sample.train.scan.tolist()}
        assert subjects == {"01", "02"}
        assert len(sample.val) >= 2
        assert 1 <= len(sample.spans) <= 5
        normalisation = sample.normalisation(data, sample.read(data))
        assert normalisation.mean_SV.shape == (7, 24)
        assert normalisation.n_masked == 0


def test_no_unit_is_constant_for_want_of_trs_in_the_sample(
    dataset_writer: Callable[..., Any], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    """Row groups that begin in a set's last TR hold one training TR of a scan."""
    for n_trs in (203, 212, 224):
        location = str(tmp_path / f"{n_trs}")
        dataset_writer(location, {f"film{i}": n_trs + i for i in range(6)}, ("01",))
        for fold in (1, 2, 3, 4):
            data = plan(location, tiny_model, split={"folds": 4, "fold": fold})
            for seed in range(12):
                sample = choose_sample(data, n_train=32, n_val=16, seed=seed)
                normalisation = sample.normalisation(data, sample.read(data))
                assert normalisation.n_masked == 0
                trained_S = np.unique(sample.train.scan)
                assert (normalisation.std_SV[trained_S] > 0.1).all()


def test_subject_without_training_trs_is_refused(
    dataset_writer: Callable[..., Any], tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    dataset_writer(
        tmp_path / "data",
        {"one": 60, "two": 60, "three": 60},
        ("01", "02"),
        unseen=(("02", "one"),),
    )
    split = {"kind": "stimuli", "val_stimuli": ["two"], "test_stimuli": ["three"]}
    data = plan_data(
        TrainJob(dataset=str(tmp_path / "data"), data={"split": split}, model=tiny_model)
    )
    with pytest.raises(InputError, match="subject 02 has no training TRs"):
        choose_sample(data, n_train=4, n_val=2, seed=0)
