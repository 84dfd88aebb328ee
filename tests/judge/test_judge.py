"""The test of a run: TRs that nothing was chosen on, judged once, with scores of scipy's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from giblet_ray.checkpoint.judged import Judged, read_judged
from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.judge.beside import beside_in_words, compare_tests
from giblet_ray.judge.judge import judge_run, score_test
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.rows import all_rows
from giblet_ray.training.data import plan_data

FILMS = {"one": 117, "two": 90, "three": 80}
SPLITS: dict[str, dict[str, Any]] = {
    "blocks": {},
    "stimuli": {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)},
    "repeats": {"kind": "repeats", "val_repeats": (2,), "test_repeats": (3,)},
    "folds": {"folds": 3, "val_fraction": 0.2},
}


class Trained:
    """A run of a data set whose BOLD `change` has changed, and its test."""

    def __init__(
        self, folder: Path, make: Callable[..., Any], train: Callable[..., Any],
        model: dict[str, Any], split: str, **dataset: Any,
    ) -> None:  # fmt: skip
        repeats = 3 if split == "repeats" else 2
        self.arrays = make(folder / "data", FILMS, ("01", "02"), repeats=repeats, **dataset)
        # Codes take longest to learn from: in one split of four.
        modalities = ("audio", "text") if split == "blocks" else ("text",)
        self.job = TrainJob(
            dataset=str(folder / "data"),
            name="run",
            data={"split": SPLITS[split], "modalities": modalities},
            model=model,
            train={"epochs": 2, "batch_trs": 64},
        )
        self.link = train(self.job, folder / "runs/run")
        self.storage = Storage.at(str(folder / "runs"))
        self.folder = folder / "runs/run"

    def judge(self) -> Judged:
        return judge_run(self.storage, "run", None, (), lambda line: None)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> Callable[..., Trained]:
    made: dict[str, Trained] = {}

    def make(split: str, **dataset: Any) -> Trained:
        if split in made and not dataset:
            return made[split]
        folder = tmp_path_factory.mktemp(split)
        how = (dataset_writer, train_locally, tiny_model, split)
        found = Trained(folder, *how, **dataset)
        return found if dataset else made.setdefault(split, found)

    return make


@pytest.mark.parametrize("split", SPLITS)
def test_scores_are_means_over_scans_then_subjects_of_what_the_checkpoint_predicts(
    trained: Callable[..., Trained], split: str
) -> None:
    run = trained(split)
    judged = run.judge()
    encoder = Encoder.load(run.folder)
    data = plan_data(run.job)
    of_subjects = []
    for subject in ("01", "02"):
        of_scans = []
        for scan in data.scans:
            spans = [span for span in data.split.test if span.stimulus == scan.stimulus]
            if scan.subject != subject or not spans or not data.split.has("test", scan.repeat):
                continue
            film = {
                part: run.arrays[f"{part}/{scan.stimulus}.parquet"] for part in encoder.shapes.parts
            }
            if "codes" in film:
                film["codes"] = film["codes"][:, :2]
            predicted = np.zeros((FILMS[scan.stimulus], 24))
            predicted[3:] = encoder.predict(**film)[:-3]  # the lag
            bold = run.arrays[data.dataset.scans[scan].shard.path]
            trs = np.concatenate([np.r_[span.start : span.stop] for span in spans])
            of_scans.append(
                [scipy.stats.pearsonr(predicted[trs, v], bold[trs, v]).statistic for v in range(24)]
            )
        of_subjects.append(np.mean(of_scans, axis=0))
    np.testing.assert_allclose(units_of(run), of_subjects, atol=1e-6)
    assert judged.metrics["pearson_mean"] == pytest.approx(np.mean(of_subjects), abs=1e-6)
    assert judged.name == ("test_seen_film" if split == "repeats" else "test")
    assert judged.logged()[f"{judged.name}/pearson_mean"] == judged.metrics["pearson_mean"]


@pytest.mark.parametrize("split", SPLITS)
def test_other_test_values_change_the_test_and_nothing_else(
    trained: Callable[..., Trained], split: str
) -> None:
    """No weight, epoch or validation score, to the last bit."""
    as_made = trained(split)
    data = plan_data(as_made.job)

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        if data.split.has("test", key.repeat):
            for span in data.split.test:
                if span.stimulus == key.stimulus:
                    bold[span.start : span.stop] = np.random.default_rng(9).normal(
                        -300, 77, size=(len(span), bold.shape[1])
                    )
        return bold

    changed = trained(split, change_bold=change)
    runs = (as_made, changed)
    ignored = ("seconds", "rows_per_second", "wait_share", "peak_bytes")
    histories = [
        [
            {key: value for key, value in epoch.items() if not key.endswith(ignored)}
            for epoch in run.link.reports
        ]
        for run in runs
    ]
    assert histories[0] == histories[1]
    best = [best_checkpoint(run.storage, "run") for run in runs]
    assert best[0].location.rpartition("/")[2] == best[1].location.rpartition("/")[2]
    assert_same_weights(*runs)
    assert as_made.judge().metrics != changed.judge().metrics


@pytest.mark.parametrize("split", ["blocks", "folds"])
def test_no_gain_of_any_scan_moves_weights_or_scores(
    trained: Callable[..., Trained], split: str
) -> None:
    """To the last bit, as gains of powers of two round nothing; training TRs have them too."""

    def rescale(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold * np.float32(2.0 ** (key.repeat + 3 * int(key.subject) + len(key.stimulus)))

    as_made, rescaled = trained(split), trained(split, change_bold=rescale)
    assert_same_weights(as_made, rescaled)
    one, other = (units_of(run) for run in (as_made, rescaled))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("split", SPLITS)
def test_no_offset_or_gain_of_any_scan_moves_r_of_what_is_predicted(
    trained: Callable[..., Trained], split: str
) -> None:
    run = trained(split)
    scans = list(all_rows(open_run(str(run.folder))).values())
    random = np.random.default_rng(3)
    found = []
    for changes in (False, True):
        sums = ScanSums([scan.subject for scan in scans], 24)
        for index, scan in enumerate(scans):
            bold_TV = scan.bold_TV.double()
            if changes:
                bold_TV = random.uniform(0.1, 9) * bold_TV + random.uniform(-2e4, 2e4)
            sums.add(index, scan.prediction_TV, bold_TV)
        found.append([each.pearson_V for each in sums.compute().subjects.values()])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[0], units_of(run), atol=1e-6)


def test_runs_on_other_data_are_not_tested_against_each_other(
    trained: Callable[..., Trained],
) -> None:
    one, other = (str(trained(split).folder) for split in ("stimuli", "repeats"))
    with pytest.raises(InputError, match=r"^the two were trained on different data sets: no TR is"):
        beside_in_words(one, other, (), lambda line: None)


def test_runs_on_other_scans_are_not_tested_against_each_other(
    trained: Callable[..., Trained], train_locally: Callable[..., Any]
) -> None:
    run = trained("stimuli")
    data = run.job.data.model_copy(update={"subjects": ("01",)})
    train_locally(
        run.job.model_copy(update={"name": "of-01", "data": data}), run.folder.parent / "of-01"
    )
    before = run.judge().readings
    where = str(run.folder.parent / "of-01"), str(run.folder)
    found = (
        r"^the two are judged on different scans, 2 of them by one run alone \(sub 02, three; "
        r"sub 02, three, repeat 2\): runs with the same scans in their test can be paired$"
    )
    for one, other in (where, where[::-1]):
        for compare in (compare_tests, beside_in_words):
            with pytest.raises(InputError, match=found):
                compare(one, other, (), lambda line: None)
    assert run.judge().readings == before


def test_a_comparison_of_two_tests_is_a_reading_of_both(trained: Callable[..., Trained]) -> None:
    run = trained("blocks")
    before = run.judge().readings
    mean, same, test = compare_tests(str(run.folder), str(run.folder), (), lambda line: None)
    assert mean.value == same.value == pytest.approx(run.judge().metrics["pearson_mean"], abs=1e-5)
    assert test.difference == 0
    judged = read_judged(run.storage, "run")
    assert judged is not None
    assert judged.readings == before + 2


@pytest.mark.parametrize("split", ["stimuli", "repeats"])
def test_no_offset_or_gain_of_a_scan_that_is_held_out_moves_its_test(
    trained: Callable[..., Trained], split: str
) -> None:
    as_made = trained(split)
    data = plan_data(as_made.job)

    def rescale(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        trains = data.split.has("train", key.repeat) and any(
            span.stimulus == key.stimulus for span in data.split.train
        )
        if trains:
            return bold
        return (3.5 * bold + 20000 * key.repeat).astype(np.float32)

    rescaled = trained(split, change_bold=rescale)
    one, other = (units_of(run) for run in (as_made, rescaled))
    np.testing.assert_allclose(one, other, atol=1e-4 if split == "repeats" else 1e-5)
    metrics = [run.link.reports[-1]["val/pearson_mean"] for run in (as_made, rescaled)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


def assert_same_weights(*runs: Trained) -> None:
    one, other = (Encoder.load(run.folder).model.state_dict() for run in runs)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def units_of(run: Trained) -> np.ndarray:
    """Return r of each unit on the test TRs, (subjects, units)."""
    scores, _ = score_test(open_run(str(run.folder)))
    return np.stack([each.pearson_V for _, each in sorted(scores.subjects.items())])


def test_a_checkpoint_is_judged_once_and_another_one_again(
    trained: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("blocks")
    for name in ("test.json", "readings.json"):
        (run.folder / name).unlink(missing_ok=True)
    first = run.judge()
    assert first.readings == 1
    assert read_judged(run.storage, "run") == first
    with monkeypatch.context() as patch:
        patch.setattr(Dataset, "read", lambda *read: pytest.fail("the test TRs were read again"))
        assert run.judge() == first
    other = first.model_copy(update={"weights": "others"})
    (run.folder / "test.json").write_text(other.model_dump_json())
    again = run.judge()
    assert again.readings == 2
    assert again.metrics == first.metrics
    (run.folder / "test.json").unlink()
    assert run.judge().readings == 3
    (run.folder / "test.json").write_text("{")
    with pytest.raises(InputError, match=r"test.json: damaged: .*; delete it"):
        run.judge()
