"""Held-out predictions made again: against the obvious loop, and what the trainings recorded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from safetensors.numpy import load_file, save_file

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.heldout import TrainedRun, common_trs, score_run
from giblet_ray.comparison.kept import KEPT, read_kept
from giblet_ray.comparison.pairs import PairSettings, intervals_of
from giblet_ray.comparison.read import read_runs
from giblet_ray.comparison.scores import read_voxel_pearson
from giblet_ray.config import TrainJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import bold_column
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError


@pytest.fixture(scope="module")
def trained(store: Any) -> dict[str, TrainedRun]:
    """Runs that can be opened, by name."""
    runs = read_runs(store.uri, store.experiment)
    return {run.name: TrainedRun.open(run) for run in runs if run.status != "FAILED"}


def test_scores_over_all_held_out_trs_are_those_that_the_training_recorded(
    trained: dict[str, TrainedRun],
) -> None:
    a, b = trained["good"], trained["silent"]
    common = common_trs([a, b])
    assert common.n_trs == sum(len(span) for span in a.data.split.val)
    for one in (a, b):
        scored = score_run(one, common)
        recorded = read_voxel_pearson(one.run.folder)
        np.testing.assert_allclose(scored.pearson_V, recorded, atol=1e-5)
        assert scored.mean.value == pytest.approx(one.run.value("val/pearson_mean"), abs=1e-5)
        assert len(scored.mean.series) == common.n_trs


def test_only_the_repeats_that_chose_a_run_are_scored(
    make_run: Any, dataset_writer: Any, train_locally: Any, tiny_model: Any, tmp_path: Path
) -> None:
    """Training, validation and test have the same TRs of a film, of other scans."""
    dataset_writer(tmp_path / "film", {"one": 117, "two": 83}, ("01", "02"), repeats=3)
    job = TrainJob(
        dataset=str(tmp_path / "film"),
        name="run",
        data={
            "split": {"kind": "repeats", "val_repeats": (2,), "test_repeats": (3,)},
            "modalities": ("text",),
        },
        model=tiny_model,
        train={"epochs": 1, "batch_trs": 64},
    )
    link = train_locally(job, tmp_path / "run")
    one = TrainedRun.open(make_run("run", folder=str(tmp_path / "run")))
    common = common_trs([one, one])
    assert {scan.repeat for scan in common.scans} == {2}
    assert common.are_all_of(one)
    scored = score_run(one, common)
    assert scored.mean.value == pytest.approx(link.reports[-1]["val/pearson_mean"], abs=1e-5)
    np.testing.assert_allclose(scored.pearson_V, read_voxel_pearson(one.run.folder), atol=1e-5)


def test_runs_of_different_lag_are_paired_on_the_same_bold(
    trained: dict[str, TrainedRun],
) -> None:
    """From every TR's prediction on its own, and r of scipy."""
    a, b = trained["good"], trained["late"]
    both = [(s.stimulus, tr) for s in a.data.split.val for tr in range(s.start, s.stop)]
    common = common_trs([a, b])
    in_spans = [(s.stimulus, tr) for s in common.spans for tr in range(s.start, s.stop)]
    assert sorted(in_spans) == sorted(both)
    for one in (a, b):
        of_scan = []  # two films of each of two subjects: the mean over scans is that over subjects
        for scan in common.scans:
            prediction = _prediction(one, scan.stimulus, both)
            target = _bold(a, scan, both)
            of_scan.append([
                scipy.stats.pearsonr(prediction[:, v], target[:, v]).statistic
                for v in range(target.shape[1])
            ])  # fmt: skip
        assert len(of_scan) == 4
        np.testing.assert_allclose(
            score_run(one, common).pearson_V, np.mean(of_scan, axis=0), atol=1e-6
        )


def test_mean_of_subjects_of_whom_one_lacks_units_is_over_subjects_then_units(
    trained: dict[str, TrainedRun],
) -> None:
    common = common_trs([trained["good"]])
    fewer_V = np.arange(len(common.valid["02"])) % 3 > 0
    scored = score_run(trained["good"], replace(common, valid={**common.valid, "02": fewer_V}))
    assert scored.mean.value == pytest.approx(np.nanmean(scored.pearson_V), abs=1e-12)
    everything = score_run(trained["good"], common)
    assert scored.mean.value != pytest.approx(everything.mean.value, abs=1e-6)


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


def _bold(trained: TrainedRun, scan: Any, trs: list) -> np.ndarray:
    dataset, chosen = trained.data.dataset, [tr for name, tr in trs if name == scan.stimulus]
    whole = Span(scan.stimulus, 0, dataset.stimuli[scan.stimulus].n_trs)
    table = dataset.read(whole, Selection(subjects=(scan.subject,)))
    column = table[bold_column(scan.subject)].combine_chunks()
    bold_TV = as_arrays(column, dataset.value_type("bold/01"))
    return bold_TV[chosen]


def test_runs_that_share_no_data_are_refused(
    trained: dict[str, TrainedRun], store: Any, dataset_writer: Any, tmp_path: Any
) -> None:
    one = trained["good"]
    units = {subject: np.arange(3) for subject in one.data.selection.subjects}
    fewer = replace(one.data.selection, units=units)
    some = replace(one, data=replace(one.data, selection=fewer))
    with pytest.raises(InputError, match="predict different voxels"):
        common_trs([one, some])
    elsewhere = replace(one, data=replace(one.data, split=replace(one.data.split, val=())))
    with pytest.raises(InputError, match="no validation TR is common to all of them"):
        common_trs([one, elsewhere])
    dataset_writer(tmp_path / "other", {"one": 303, "two": 181}, ("01", "02"), seed=1)
    with pytest.raises(InputError, match="not the data set that run good was trained on"):
        TrainedRun.open(one.run, str(tmp_path / "other"))
    with pytest.raises(InputError, match="no such file"):
        TrainedRun.open(one.run, str(tmp_path / "absent"))


def test_a_run_is_predicted_once_and_its_folder_keeps_what_each_tr_adds(
    trained: dict[str, TrainedRun], tmp_path: Path
) -> None:
    """Read again without the weights; made anew for other TRs."""
    kept = shutil.ignore_patterns(KEPT)
    folder = shutil.copytree(trained["good"].run.folder, tmp_path / "good", ignore=kept)
    one = TrainedRun.open(replace(trained["good"].run, folder=str(folder)))
    settings = PairSettings(None, 99, 20, 0, Dataset.open, ())
    common = common_trs([one])
    made = settings.score(one, common, print)
    for weights in folder.glob("*/model.safetensors"):
        weights.unlink()
    kept = settings.score(one, common, print)
    assert kept.mean.value == made.mean.value
    assert kept.mean.places == made.mean.places
    for found, expected in zip(kept.mean.stretches, made.mean.stretches, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(kept.pearson_V, made.pearson_V)
    assert settings.notes == []
    with pytest.raises(InputError, match=r"model\.safetensors"):
        settings.score(one, replace(common, spans=common.spans[:1]), print)
    intervals, reasons = intervals_of([one], settings, lambda stage, done: None)
    (interval,) = intervals.values()
    assert interval.low < one.run.value("val/pearson_mean") < interval.high
    assert (interval.n_trs, reasons) == (common.n_trs, [])
    (folder / KEPT).write_bytes(b"half")
    intervals, (reason,) = intervals_of([one], settings, lambda stage, done: None)
    assert not intervals
    assert "run good has no interval" in reason
    assert "validation.safetensors: damaged" in reason


def test_what_is_said_of_an_interval_that_is_of_another_score_than_was_recorded(
    trained: dict[str, TrainedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = dict.fromkeys((1, 2), 0.9)
    run = replace(trained["good"].run, curves={"val/pearson_mean": recorded}, logged_best={})
    settings = PairSettings(None, 99, 20, 0, Dataset.open, ())
    one = replace(trained["good"], run=run)
    intervals, (note,) = intervals_of([one], settings, lambda stage, done: None)
    assert intervals[run.id].high < 0.9
    assert "its training recorded 0.9000: weights or data have changed since; its interval" in note
    # With weights found on the TRs themselves, a stack's score is another than the one it is by.
    monkeypatch.setattr("giblet_ray.comparison.pairs.is_stack", lambda opened: True)
    intervals, (note,) = intervals_of([one], settings, lambda stage, done: None)
    assert not intervals
    assert note.startswith("run good is a stack: its weights were found on these TRs")
    assert note.endswith("with weights found without each TR, 0.9000, which has no interval")


def test_what_a_folder_keeps_of_another_mean_is_made_anew(
    trained: dict[str, TrainedRun], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained["good"].run.folder, tmp_path / "good")
    one = TrainedRun.open(replace(trained["good"].run, folder=str(folder)))
    common = common_trs([one])
    PairSettings(None, 99, 20, 0, Dataset.open, ()).score(one, common, print)
    assert read_kept(one, common) is not None
    arrays = load_file(folder / KEPT)
    known = json.loads(arrays["known"].tobytes())
    del known["of"]["mean"]
    known = np.frombuffer(json.dumps(known).encode(), np.uint8)
    save_file({**arrays, "known": known}, folder / KEPT)
    assert read_kept(one, common) is None


def test_a_run_whose_folder_takes_nothing_is_predicted_once_all_the_same(
    trained: dict[str, TrainedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shutil.ignore_patterns(KEPT)
    folder = shutil.copytree(trained["good"].run.folder, tmp_path / "good", ignore=kept)
    one = TrainedRun.open(replace(trained["good"].run, folder=str(folder)))
    settings, common = PairSettings(None, 99, 20, 0, Dataset.open, ()), common_trs([one])

    def refuse(storage: Storage, name: str) -> None:
        raise StorageError(f"{storage.describe(name)}: Permission denied")

    monkeypatch.setattr(Storage, "write", refuse)
    made = settings.score(one, common, print)
    for weights in folder.glob("*/model.safetensors"):
        weights.unlink()
    assert settings.score(one, common, print) is made
    (note,) = settings.notes
    assert note.startswith("run good is predicted again each time: ")


def test_missing_or_damaged_checkpoint_is_one_line(
    trained: dict[str, TrainedRun], tmp_path: Any
) -> None:
    gone = replace(trained["good"].run, folder=str(tmp_path / "gone"))
    with pytest.raises(InputError, match="no checkpoint") as error:
        TrainedRun.open(gone)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no checkpoint there"):
        read_voxel_pearson(gone.folder)


def test_data_set_that_was_moved_is_found_where_it_is_said_to_be(
    trained: dict[str, TrainedRun], store: Any, tmp_path: Any
) -> None:
    moved = shutil.copytree(store.dataset, tmp_path / "moved")
    one = TrainedRun.open(trained["good"].run, str(moved))
    assert one.data.dataset.storage.location == str(moved)
    scored = [score_run(each, common_trs([each])) for each in (one, trained["good"])]
    np.testing.assert_array_equal(scored[0].pearson_V, scored[1].pearson_V)
    np.testing.assert_array_equal(scored[0].mean.series, scored[1].mean.series)
