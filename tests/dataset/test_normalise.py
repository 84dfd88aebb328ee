"""Z-scoring from training TRs alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.normalise import (
    Moments,
    Normalisation,
    UsedRows,
    normalisation_from_moments,
)
from giblet_ray.dataset.normalise_on_cluster import fit_on_cluster
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.source import read_shards
from giblet_ray.dataset.splits import Use
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.errors import InputError

STIMULI = {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)}


def view(dataset: Dataset, **split: Any) -> DataView:
    return view_data(dataset, DataConfig.model_validate({"split": split}), ("text",))


def fit(dataset: Dataset, **split: Any) -> Normalisation:
    data = view(dataset, **split)
    rows = read_shards(dataset, data.selection)
    return fit_on_cluster(rows, UsedRows(dataset, data.selection, data.scans, data.uses))


def fit_here(dataset: Dataset, **split: Any) -> Normalisation:
    data = view(dataset, **split)
    blocks = [dataset.read(span, data.selection) for span in dataset.row_groups()]
    return UsedRows(dataset, data.selection, data.scans, data.uses).fit(blocks)


def bold_of(arrays: dict[str, np.ndarray], scan: ScanKey, spans: tuple[Span, ...]) -> np.ndarray:
    bold = arrays[f"bold/{scan.subject}/{scan.stimulus}.parquet"].astype(np.float64)
    return np.concatenate([bold[s.start : s.stop] for s in spans if s.stimulus == scan.stimulus])


def test_statistics_are_those_of_each_scans_training_trs(
    cluster: None, arrays_and_dataset: tuple
) -> None:
    """Those before the lag has passed among them."""
    arrays, dataset = arrays_and_dataset
    spans = view(dataset).split.train
    found = fit(dataset)
    for index, scan in enumerate(found.scans):
        expected = bold_of(arrays, scan, spans)
        np.testing.assert_allclose(found.mean_SV[index], expected.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.std_SV[index], expected.std(0), rtol=1e-6)
    assert found.n_masked == 0


def test_statistics_are_the_same_to_the_last_bit(cluster: None, arrays_and_dataset: tuple) -> None:
    dataset = arrays_and_dataset[1]
    first, second = fit(dataset), fit(dataset)
    np.testing.assert_array_equal(first.mean_SV, second.mean_SV)
    np.testing.assert_array_equal(first.std_SV, second.std_SV)


def test_a_scan_that_is_held_out_whole_is_z_scored_by_itself(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    arrays = dataset_writer(tmp_path, {"one": 50, "two": 40, "three": 45}, ("01", "02"))
    found = fit_here(Dataset.open(str(tmp_path)), **STIMULI)
    for stimulus in ("two", "three"):
        index = found.scans.index(ScanKey("02", stimulus))
        bold = arrays[f"bold/02/{stimulus}.parquet"].astype(np.float64)
        np.testing.assert_allclose(found.mean_SV[index], bold.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.std_SV[index], bold.std(0), rtol=1e-6)


@pytest.mark.parametrize("split", [{}, STIMULI], ids=["blocks", "stimuli"])
def test_nothing_of_the_held_out_trs_enters_what_trains(
    tmp_path: Path, dataset_writer: Callable, split: dict[str, Any]
) -> None:
    """Not even that a unit is constant there."""
    films = {"one": 117, "two": 90, "three": 90}
    dataset_writer(tmp_path / "as made", films, ("01",))
    spans = view(Dataset.open(str(tmp_path / "as made")), **split).split.train

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        held_out = np.ones(len(bold), bool)
        for span in spans:
            if span.stimulus == key.stimulus:
                held_out[span.start : span.stop] = False
        bold[held_out] += 1e4
        bold[held_out, 3] = 7
        return bold

    dataset_writer(tmp_path / "changed", films, ("01",), change_bold=change)
    found = [
        fit_here(Dataset.open(str(tmp_path / name)), **split) for name in ("as made", "changed")
    ]
    np.testing.assert_array_equal(found[0].valid_SV, found[1].valid_SV)
    assert found[0].valid_SV.all()
    trains = [any(s.stimulus == scan.stimulus for s in spans) for scan in found[0].scans]
    np.testing.assert_array_equal(found[0].mean_SV[trains], found[1].mean_SV[trains])
    np.testing.assert_array_equal(found[0].std_SV[trains], found[1].std_SV[trains])
    assert sum(trains) == (1 if split else 3)
    assert (found[1].std_SV > 0).all()


def test_units_constant_in_training_or_not_finite_in_any_used_tr_are_masked_and_counted(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    """A NaN counts where it trains or judges, and in the subject that has it alone."""
    scans = [ScanKey("01", "film"), ScanKey("02", "film")]
    uses = np.zeros(70, np.int8)
    uses[np.r_[3:19, 43:63]], uses[28:35] = Use.TRAINS, Use.JUDGES

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        if key.subject == "01":
            bold[np.r_[0:19, 43:63], 1] = 993.7  # constant in the training TRs alone
            bold[20, 2] = np.nan  # in the gap
        else:
            bold[7, 4] = np.nan
            bold[30, 5] = np.inf  # held out
        bold[12:14] = np.nan  # two volumes without a number: masked TRs
        return bold

    dataset_writer(tmp_path, {"film": 70}, ("01", "02"), n_voxels=7, change_bold=change)
    dataset = Dataset.open(str(tmp_path))
    selection = Selection(subjects=("01", "02"))
    of_scans = [np.where(dataset.usable_trs(scan), uses, Use.NONE) for scan in scans]
    blocks = [dataset.read(span, selection) for span in dataset.row_groups()]
    found = UsedRows(dataset, selection, scans, of_scans).fit(blocks)
    assert [np.flatnonzero(~valid_V).tolist() for valid_V in found.valid_SV] == [[1], [4, 5]]
    assert (found.n_masked, found.n_not_finite) == (3, 2)
    assert np.isfinite(found.mean_SV).all()
    assert (found.std_SV > 0).all()


@pytest.mark.parametrize("cuts", [(1,), (7, 8, 30), (20,)])
def test_merged_moments_are_those_of_all_rows(cuts: Any) -> None:
    bold = np.random.default_rng(1).normal(5000, 1, (40, 3))
    merged = None
    for piece in np.split(bold, cuts):
        merged = merged.merge(Moments.of(piece)) if merged else Moments.of(piece)
    assert merged is not None
    np.testing.assert_allclose(merged.mean_V, bold.mean(0), rtol=1e-12)
    np.testing.assert_allclose(merged.squares_V / 40, bold.var(0), rtol=1e-9)


def test_subject_without_training_trs_is_refused() -> None:
    scans = [ScanKey("01", "one"), ScanKey("02", "two")]
    moments = {scans[0]: Moments.of(np.random.default_rng(0).normal(size=(9, 2)))}
    finite = {"01": np.ones(2, bool)}
    with pytest.raises(InputError, match=r"subject 02 has no training TRs; train on another"):
        normalisation_from_moments(scans, moments, {scans[0]}, finite, "here")
