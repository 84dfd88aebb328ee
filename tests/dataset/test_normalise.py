"""Z-scoring from training TRs alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from giblet_ray.dataset.splits import Split, split_blocks, split_stimuli
from giblet_ray.dataset.windows import cut_windows
from giblet_ray.dataset.writer import write_manifest, write_shard
from giblet_ray.errors import InputError

LAG = 3


def fit(dataset: Dataset, split: Split) -> Normalisation:
    selection = Selection(subjects=dataset.subjects)
    scans = sorted(dataset.scans)
    rows = read_shards(dataset, selection)
    train, val = (cut_windows(spans, scans, 1) for spans in (split.train, split.val))
    return fit_on_cluster(rows, UsedRows(dataset, selection, scans, train, val, LAG))


def blocks(dataset: Dataset) -> Split:
    usable = {name: s.n_trs - LAG for name, s in dataset.stimuli.items()}
    return split_blocks(usable, 0.2, 1, 14)


def training_bold(arrays: dict[str, np.ndarray], scan: ScanKey, split: Split) -> np.ndarray:
    bold = arrays[f"bold/{scan.subject}/{scan.stimulus}.parquet"]
    spans = [span for span in split.train if span.stimulus == scan.stimulus]
    return np.concatenate([bold[span.start + LAG : span.stop + LAG] for span in spans])


def test_statistics_are_those_of_each_runs_training_trs(
    cluster: None, arrays_and_dataset: tuple
) -> None:
    arrays, dataset = arrays_and_dataset
    split = blocks(dataset)
    found = fit(dataset, split)
    for index, scan in enumerate(found.scans):
        expected = training_bold(arrays, scan, split).astype(np.float64)
        np.testing.assert_allclose(found.mean_SV[index], expected.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.std_SV[index], expected.std(0), rtol=1e-6)
    assert found.n_masked == 0


def test_statistics_are_the_same_to_the_last_bit(cluster: None, arrays_and_dataset: tuple) -> None:
    dataset = arrays_and_dataset[1]
    first, second = (fit(dataset, blocks(dataset)) for _ in range(2))
    np.testing.assert_array_equal(first.mean_SV, second.mean_SV)
    np.testing.assert_array_equal(first.std_SV, second.std_SV)


def test_held_out_run_takes_its_subjects_training_runs(
    cluster: None, arrays_and_dataset: tuple
) -> None:
    arrays, dataset = arrays_and_dataset
    usable = {name: s.n_trs - LAG for name, s in dataset.stimuli.items()}
    split = split_stimuli(usable, ["two"])
    found = fit(dataset, split)
    held_out, train = (
        found.scans.index(ScanKey("02", "two")),
        found.scans.index(ScanKey("02", "one")),
    )
    np.testing.assert_array_equal(found.mean_SV[held_out], found.mean_SV[train])
    expected = training_bold(arrays, ScanKey("02", "one"), split)
    np.testing.assert_allclose(found.mean_SV[held_out], expected.mean(0), rtol=1e-5)


def test_nothing_of_the_held_out_trs_enters(
    cluster: None, tmp_path: Path, dataset_writer: Callable
) -> None:
    found = []
    for name in ("as made", "changed"):
        arrays = dataset_writer(tmp_path / name, {"one": 117}, ("01",))
        dataset = Dataset.open(str(tmp_path / name))
        split = blocks(dataset)
        if name == "changed":
            change = dict.fromkeys(range(117))
            for span in split.train:
                for tr in range(span.start + LAG, span.stop + LAG):
                    change.pop(tr)
            bold = arrays["bold/01/one.parquet"].copy()
            bold[list(change)] += 1e4
            rewrite_bold(dataset, bold)
            dataset = Dataset.open(str(tmp_path / name))
        found.append(fit(dataset, split))
    np.testing.assert_array_equal(found[0].mean_SV, found[1].mean_SV)
    np.testing.assert_array_equal(found[0].std_SV, found[1].std_SV)


def rewrite_bold(dataset: Dataset, bold: np.ndarray) -> None:
    """Replace the BOLD of the only scan."""
    labels = {"part": "bold", "stimulus": "one", "subject": "01"}
    step = dataset.manifest.row_group_trs
    shard = write_shard(dataset.storage, "bold/01/one.parquet", bold, step, labels)
    (scan,) = dataset.manifest.scans
    scans = (scan.model_copy(update={"shard": shard}),)
    write_manifest(dataset.storage, dataset.manifest.model_copy(update={"scans": scans}))


def test_units_constant_in_training_or_not_finite_in_any_used_tr_are_masked_and_counted(
    tmp_path: Path, dataset_writer: Callable
) -> None:
    """A NaN counts where it trains or judges, in one subject for all, and nowhere else."""
    scans = [ScanKey("01", "film"), ScanKey("02", "film")]
    train, held_out = [Span("film", 0, 16), Span("film", 40, 60)], [Span("film", 25, 32)]

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
    usable = [dataset.usable_trs(scan)[LAG:] for scan in scans]
    windows = [cut_windows(spans, scans, 1, usable) for spans in (train, held_out)]
    blocks = [dataset.read(span, selection) for span in dataset.row_groups()]
    found = UsedRows(dataset, selection, scans, *windows, LAG).fit(blocks)
    assert found.valid_V.tolist() == [True, False, True, True, False, False, True]
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
    finite_V = np.ones(2, bool)
    with pytest.raises(InputError, match=r"subject 02 has no training TRs to z-score scan two"):
        normalisation_from_moments(scans, moments, finite_V, "here")
