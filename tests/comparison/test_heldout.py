"""Held-out predictions made again: against the obvious loop, and what the trainings recorded."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.heldout import TrainedRun, block_sums, common_trs
from giblet_ray.comparison.read import read_runs
from giblet_ray.comparison.scores import read_voxel_scores
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import bold_column
from giblet_ray.dataset.reader import Selection, Span
from giblet_ray.errors import InputError
from giblet_ray.evaluation.paired import paired_test


@pytest.fixture(scope="module")
def trained(store: Any) -> dict[str, TrainedRun]:
    """Runs that can be opened, by name."""
    runs = read_runs(store.uri, store.experiment)
    return {run.name: TrainedRun.open(run) for run in runs if run.status != "FAILED"}


def test_scores_over_all_held_out_trs_are_those_that_the_training_recorded(
    trained: dict[str, TrainedRun],
) -> None:
    a, b = trained["good"], trained["silent"]
    common = common_trs([a, b], 20)
    assert common.n_trs == sum(len(span) for span in a.data.split.val)
    result = paired_test(block_sums(a, common), block_sums(b, common), common.valid_V, 200, 0)
    for one, pearson_V in ((a, result.pearson_a_V), (b, result.pearson_b_V)):
        recorded = read_voxel_scores(one.run.folder)["pearson_V"]
        np.testing.assert_allclose(pearson_V, recorded, atol=1e-5)
        assert np.nanmean(pearson_V) == pytest.approx(one.run.value("val/pearson_mean"), abs=1e-5)
    assert result.n_rows == 2 * common.n_trs  # two subjects


def test_runs_of_different_lag_are_paired_on_the_same_bold(
    trained: dict[str, TrainedRun],
) -> None:
    """From every TR's prediction on its own, and r of scipy."""
    a, b = trained["good"], trained["late"]
    both = sorted(
        (span.stimulus, tr) for span in a.data.split.val for tr in range(span.start, span.stop)
    )
    common = common_trs([a, b], 20)
    in_blocks = [(s.stimulus, tr) for s in common.blocks for tr in range(s.start, s.stop)]
    assert sorted(in_blocks) == both
    assert len(in_blocks) == len(both)
    result = paired_test(block_sums(a, common), block_sums(b, common), common.valid_V, 200, 0)
    target = np.concatenate(
        [_bold(a, scan, both, common, i) for i, scan in enumerate(common.scans)]
    )
    for one, pearson_V in ((a, result.pearson_a_V), (b, result.pearson_b_V)):
        rows = [_prediction(one, scan.stimulus, both) for scan in common.scans]
        prediction = np.concatenate(rows)
        expected = [
            scipy.stats.pearsonr(prediction[:, v], target[:, v]).statistic
            for v in range(target.shape[1])
        ]
        np.testing.assert_allclose(pearson_V, expected, atol=1e-6)


def _prediction(trained: TrainedRun, stimulus: str, trs: list[tuple[str, int]]) -> np.ndarray:
    """Predict the BOLD of each of some TRs by itself."""
    encoder, dataset = Encoder.load(trained.checkpoint.location), trained.data.dataset
    whole = trained.data.selection
    selection = Selection(whole.parts, leading=whole.leading)
    kinds = selection.value_types(dataset)
    table = dataset.read(Span(stimulus, 0, dataset.stimuli[stimulus].n_trs), selection)
    values = {part: as_arrays(table[part].chunk(0), kind) for part, kind in kinds.items()}
    film_trs = [tr - trained.data.lag_trs for name, tr in trs if name == stimulus]
    rows = [
        encoder.predict(**{part: value[tr : tr + 1] for part, value in values.items()})
        for tr in film_trs
    ]
    return np.concatenate(rows)


def _bold(trained: TrainedRun, scan: Any, trs: list, common: Any, row: int) -> np.ndarray:
    dataset, chosen = trained.data.dataset, [tr for name, tr in trs if name == scan.stimulus]
    whole = Span(scan.stimulus, 0, dataset.stimuli[scan.stimulus].n_trs)
    table = dataset.read(whole, Selection(subjects=(scan.subject,)))
    column = table[bold_column(scan.subject)].combine_chunks()
    bold_TV = as_arrays(column, dataset.value_type("bold/01"))
    return (bold_TV[chosen] - common.mean_SV[row]) / common.std_SV[row]


@pytest.mark.parametrize("block_seconds", [20.0, 30.0, 1000.0])
def test_blocks_are_at_least_as_long_as_asked_or_whole_stretches(
    trained: dict[str, TrainedRun], block_seconds: float
) -> None:
    one = trained["good"]
    common = common_trs([one], block_seconds)
    whole = list(one.data.split.val)
    assert sum(map(len, common.blocks)) == sum(map(len, whole))
    for block in common.blocks:
        assert len(block) * 1.5 >= block_seconds or block in whole
    longest = max(map(len, common.blocks)) * 1.5
    assert longest < 2 * block_seconds + 1.5
    assert (len(common.blocks) > len(whole)) == (block_seconds < 1000)


def test_runs_that_share_no_data_are_refused(
    trained: dict[str, TrainedRun], store: Any, dataset_writer: Any, tmp_path: Any
) -> None:
    one = trained["good"]
    units = {subject: np.arange(3) for subject in one.data.selection.subjects}
    fewer = replace(one.data.selection, units=units)
    some = replace(one, data=replace(one.data, selection=fewer))
    with pytest.raises(InputError, match="predict different voxels"):
        common_trs([one, some], 20)
    elsewhere = replace(one, data=replace(one.data, split=replace(one.data.split, val=())))
    with pytest.raises(InputError, match="no validation TR is common to all of them"):
        common_trs([one, elsewhere], 20)
    dataset_writer(tmp_path / "other", {"one": 303, "two": 181}, ("01", "02"), seed=1)
    with pytest.raises(InputError, match="not the data set that run good was trained on"):
        TrainedRun.open(one.run, str(tmp_path / "other"))
    with pytest.raises(InputError, match="no such file"):
        TrainedRun.open(one.run, str(tmp_path / "absent"))


def test_missing_or_damaged_checkpoint_is_one_line(
    trained: dict[str, TrainedRun], tmp_path: Any
) -> None:
    gone = replace(trained["good"].run, folder=str(tmp_path / "gone"))
    with pytest.raises(InputError, match="no checkpoint") as error:
        TrainedRun.open(gone)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no checkpoint there"):
        read_voxel_scores(gone.folder)


def test_data_set_that_was_moved_is_found_where_it_is_said_to_be(
    trained: dict[str, TrainedRun], store: Any, tmp_path: Any
) -> None:
    moved = shutil.copytree(store.dataset, tmp_path / "moved")
    one = TrainedRun.open(trained["good"].run, str(moved))
    assert one.data.dataset.storage.location == str(moved)
    sums = [block_sums(each, common_trs([each], 20)) for each in (one, trained["good"])]
    np.testing.assert_array_equal(sums[0].sums_SBV, sums[1].sums_SBV)
