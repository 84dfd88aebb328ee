"""Predictions of all subjects in one file, beside the encoder's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import sign
from claim_holder import holder
from safetensors.numpy import load_file, save_file

from giblet_ray.checkpoint.record import read_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import PredictJob, TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.prediction.formats.algonauts2025 import check_submission, read_submission
from giblet_ray.prediction.formatted import plan_format, predict_format

LAG = 3
MASKED = 17
FILMS = {"s07e01a": 41, "s07e01b": 33, "chaplin1": 25}
WANTED = {
    "01": {"s07e01a": 43, "s07e01b": 20, "chaplin1": 25},
    "02": {"s07e01b": 36, "s07e01a": 41, "chaplin1": 38},
}


@pytest.fixture(scope="module")
def lab(
    dataset_writer: Callable[..., dict[str, np.ndarray]],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A model of two subjects' 1,000 parcels, one of them masked in 02; films to predict, of which
    one has no text; samples."""
    folder = tmp_path_factory.mktemp("lab")
    dataset_writer(folder / "train", {"one": 117, "two": 83}, ("01", "02"), 1000)
    model = {"modality_dropout": 0.2, "heads": "subject", "head": "linear"}
    train_locally(
        TrainJob(
            dataset=str(folder / "train"),
            model={**{k: v for k, v in tiny_model.items() if k != "head_dim"}, **model},
            train={"epochs": 1, "batch_trs": 16},
        ),
        folder / "run",
    )
    (saved,) = (folder / "run").iterdir()
    normalisation = load_file(saved / "normalisation.safetensors")
    of_02 = [scan.subject == "02" for scan in read_record(saved).scans]
    normalisation["valid_SV"][of_02, MASKED] = False
    save_file(normalisation, saved / "normalisation.safetensors")
    sign(saved, "normalisation.safetensors")
    arrays = dataset_writer(folder / "test", FILMS, (), seed=5)
    np.savez(
        folder / "arrays.npz", **{path.replace("/", " "): each for path, each in arrays.items()}
    )
    manifest = Dataset.open(str(folder / "test")).manifest.model_dump()
    for stimulus in manifest["stimuli"]:
        if stimulus["name"] == "chaplin1":
            del stimulus["phases"][0]["shards"]["text"]
    write_manifest(Storage.at(str(folder / "test")), Manifest(**manifest))
    for subject, samples in WANTED.items():
        np.save(folder / f"sub-{subject}_fmri_samples.npy", samples, allow_pickle=True)
    return folder


def job(lab: Path, **settings: Any) -> PredictJob:
    where = {"model": str(lab / "run"), "dataset": str(lab / "test"), "batch_trs": 10}
    asked = {"format": "algonauts2025", "samples": str(lab / "sub-*_fmri_samples.npy")}
    return PredictJob(**{**where, **asked, "out": str(lab / "s7.zip"), **settings})


@pytest.fixture(scope="module")
def made(cluster: None, lab: Path) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """What the file holds, and the lines that were said."""
    lines: list[str] = []
    predict_format(job(lab), lines.append)
    return read_submission(str(lab / "s7.zip")), lines


@pytest.mark.parametrize("subject", WANTED)
def test_rows_are_those_of_each_subject_s_own_head_and_0_where_nothing_is_predicted(
    made: tuple[dict[str, dict[str, np.ndarray]], list[str]], lab: Path, subject: str
) -> None:
    found, arrays = made[0], np.load(lab / "arrays.npz")
    encoder = Encoder.load(lab / "run")
    for film, n in WANTED[subject].items():
        parts = ("frames", "codes") if film == "chaplin1" else ("frames", "codes", "text")
        values = {part: arrays[f"{part} {film}.parquet"] for part in parts}
        wanted = np.zeros((max(n, FILMS[film] + LAG), 1000), np.float32)
        wanted[LAG : LAG + FILMS[film]] = np.nan_to_num(encoder.predict(subject, **values))
        assert wanted.std() > 0
        of_film = found[f"sub-{subject}"][film]
        np.testing.assert_allclose(of_film, wanted[:n], rtol=0, atol=5e-5 * wanted.std())
        assert not of_film[:LAG].any()
        assert not of_film[FILMS[film] + LAG :].any()


def test_the_file_is_accepted_and_what_is_not_predicted_is_said_and_kept(
    made: tuple[dict[str, dict[str, np.ndarray]], list[str]], lab: Path
) -> None:
    found, lines = made
    check_submission(found, WANTED)
    assert not found["sub-02"]["s07e01a"][:, MASKED].any()
    said = "\n".join(lines)
    assert "subject 01: 88 TRs of 3 stimuli; 9 before and 0 after those that are predicted" in said
    assert "subject 01, s07e01b: 20 TRs are asked for, and the film has 33" in said
    assert "subject 02, chaplin1: 38 TRs are asked for, and the film has 25" in said
    assert "subject 01, chaplin1: predicted without text" in said
    assert "subject 02: 1 units have no prediction" in said
    assert "there are no samples of sub-03, sub-05" in said
    record = json.loads((lab / "s7.json").read_text())
    assert record["subjects"]["02"]["unpredicted"] == [str(MASKED)]
    chaplin = record["subjects"]["02"]["stimuli"][2]
    assert chaplin == {
        "stimulus": "chaplin1", "film_trs": 25, "n_trs": 38, "n_before": 3, "n_after": 10,
        "n_cut": 0, "without": ["text"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "samples", "message"),
    [
        ({"out": "file/s7.zip"}, None, r"file/s7.unfinished: cannot be written: "),
        ({"out": "kept.zip"}, None, r"--out kept.zip: kept.json is there; give another --out, or "),
        ({"out": "s7"}, None, r"--out s7: --format algonauts2025 is one file, whose name ends in"),
        ({}, {"s07e01a": 4, "s07e02a": 4}, r"of subject 01, s07e02a is asked for, which is not in"),
        ({}, "sub-03", r"subject 03: the model was trained on 01, 02"),
        ({"format": "algonauts2024"}, None, r"no such form \(did you mean algonauts2025\?\)"),
        ({"samples": "absent*.npy"}, None, r"--samples absent\*.npy: no file is named so"),
    ],
)
def test_what_cannot_be_predicted_is_said_before_anything_is_started(
    lab: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    samples: Any,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "kept.json"):
        (tmp_path / name).touch()
    given = {"out": str(tmp_path / "s7.zip"), **settings}
    if samples is not None:
        name = samples if isinstance(samples, str) else "sub-01"
        of = samples if isinstance(samples, dict) else {"s07e01a": 4}
        np.save(tmp_path / f"{name}_samples.npy", of, allow_pickle=True)
        given["samples"] = str(tmp_path / f"{name}_samples.npy")
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as refused:
        predict_format(job(lab, **given), lambda line: None)
    assert "\n" not in str(refused.value)
    assert set(tmp_path.iterdir()) == before


def test_a_file_that_another_job_works_on_is_left_to_it(lab: Path, tmp_path: Path) -> None:
    with (
        holder(str(tmp_path / "s7.unfinished")),
        pytest.raises(
            InputError, match=r"s7.unfinished: another job works on it, .* another --out"
        ),
    ):
        predict_format(job(lab, out=str(tmp_path / "s7.zip")), lambda line: None)


def test_the_model_is_loaded_once_for_all_subjects(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], Encoder.load

    def counted(*given: Any, **settings: Any) -> Encoder:
        loaded.append(load(*given, **settings))
        return loaded[-1]

    monkeypatch.setattr(Encoder, "load", counted)
    tasks = plan_format(job(lab, out=str(tmp_path / "s7.zip"))).tasks
    assert len(loaded) == 1
    assert {subject: task.subject for subject, task in tasks.items()} == {"01": 0, "02": 1}
    assert all(task.encoder is loaded[0] for task in tasks.values())
    for subject, task in tasks.items():
        assert [film.name for film in task.predictions.stimuli] == [*WANTED[subject]]


def test_a_model_of_other_units_is_refused(
    checkpoint: Path, arrays_and_dataset: tuple[Any, Dataset], tmp_path: Path
) -> None:
    np.save(tmp_path / "sub-01_samples.npy", {"one": 4}, allow_pickle=True)
    asked = {"format": "algonauts2025", "samples": str(tmp_path / "sub-01_samples.npy")}
    dataset = arrays_and_dataset[1].storage.location
    refused = PredictJob(
        model=str(checkpoint), dataset=dataset, out=str(tmp_path / "a.zip"), **asked
    )
    with pytest.raises(InputError, match=r"subject 01 has 24 units in the model's data set"):
        predict_format(refused, pytest.fail)
