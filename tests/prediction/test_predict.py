"""Predictions on a real Ray cluster, beside the encoder's own on rows that were never stored."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints import sign
from claim_holder import holder
from ray.data import DataContext
from safetensors.numpy import load_file, save_file

from giblet_ray.checkpoint.record import read_record
from giblet_ray.checkpoint.served import ServedEncoder
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import PredictJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.folder import Films, Model, Predicted, Predictions, WrittenSpace
from giblet_ray.prediction.predict import Summary, predict
from giblet_ray.prediction.writer import open_writer, written
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.kinds import open_space

MASKED = [3, 17]
VALID = np.setdiff1d(np.arange(24), MASKED)
LAG = 3
ROUNDING = 5e-5
"""What float32 leaves of a prediction's SD after other sums in another order: BatchNorm divides by
the small SDs of a small model's features."""


def expected(checkpoint: Path, arrays: dict[str, np.ndarray], stimulus: str) -> np.ndarray:
    """What the encoder makes of the arrays that were written, all at once."""
    parts = {part: arrays[f"{part}/{stimulus}.parquet"] for part in ("frames", "codes", "text")}
    bold_TV = Encoder.load(checkpoint).predict(**parts)
    bold_TV[:, MASKED] = np.nan
    return bold_TV


def read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """TRs and predictions, with plain pyarrow and numpy."""
    table = pq.read_table(file)
    field = table.schema.field("value")
    kind, shape = field.metadata[b"dtype"].decode(), json.loads(field.metadata[b"shape"])
    rows = [np.frombuffer(value.as_py(), kind).reshape(shape) for value in table["value"]]
    return table["tr"].to_numpy(), np.stack(rows)


@pytest.fixture(scope="module")
def finished(
    cluster: None,
    checkpoint: Path,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Summary, PredictJob]:
    """The response to both stimuli, predicted 10 TRs at a time: the last batches are ragged."""
    job = PredictJob(
        model=str(checkpoint.parent),
        dataset=arrays_and_dataset[1].storage.location,
        out=str(tmp_path_factory.mktemp("predicted") / "out"),
        batch_trs=10,
    )
    return predict(job, print), job


@pytest.mark.parametrize(("stimulus", "n_trs"), [("one", 117), ("two", 83)])
def test_every_tr_is_predicted_once_as_by_the_encoder_itself(
    finished: tuple[Summary, PredictJob],
    checkpoint: Path,
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    stimulus: str,
    n_trs: int,
) -> None:
    trs, bold_TV = read(Path(finished[0].out) / f"{stimulus}.parquet")
    np.testing.assert_array_equal(trs, np.arange(LAG, n_trs + LAG))
    wanted = expected(checkpoint, arrays_and_dataset[0], stimulus)
    assert bold_TV.dtype == np.float32
    np.testing.assert_allclose(bold_TV, wanted, rtol=0, atol=ROUNDING * np.nanstd(wanted))
    assert np.isfinite(bold_TV[:, VALID]).all()
    assert bold_TV[:, VALID].std() > 0


@pytest.mark.parametrize(("stimulus", "n_trs"), [("one", 117), ("two", 83)])
def test_file_like_the_scans_holds_the_rows_and_begins_at_the_lag(
    finished: tuple[Summary, PredictJob],
    arrays_and_dataset: tuple[Any, Dataset],
    stimulus: str,
    n_trs: int,
) -> None:
    dataset = arrays_and_dataset[1]
    stored = dataset.manifest.subjects["01"].space
    files = {name: dataset.blob(path) for name, path in stored.blobs.items()}
    space = open_space(stored.kind, files, 24, "here")
    file = Path(finished[0].out) / f"{stimulus}.nii.gz"
    _, bold_TV = read(file.with_name(f"{stimulus}.parquet"))
    assert space.n_trs(file, None, 1.5) == n_trs
    np.testing.assert_array_equal(space.read(file, None, slice(0, n_trs), None), bold_TV)
    assert float(nibabel.load(file).header["toffset"]) == LAG * 1.5


def test_units_that_are_not_predicted_have_no_value(tmp_path: Path) -> None:
    space, units = Array(6), np.array([4, 0])
    stimulus = Predicted(name="film", n_trs=3, first_bold_tr=2)
    predictions = plain_predictions(2, stimulus)
    rows_TV = np.arange(6, dtype=np.float32).reshape(3, 2)
    storage = Storage.at(str(tmp_path))
    with open_writer(storage, predictions, stimulus, space, units) as writer:
        writer.add(np.arange(3), rows_TV)
    np.testing.assert_array_equal(read(tmp_path / "film.parquet")[1], rows_TV)
    found_TV = np.load(tmp_path / "film.npy")
    np.testing.assert_array_equal(found_TV[:, units], rows_TV)
    assert np.isnan(np.delete(found_TV, units, axis=1)).all()
    assert set(written(storage, predictions, stimulus).files) == {"rows", "space"}


def test_file_like_the_scans_begins_where_the_first_tr_of_the_film_does(
    arrays_and_dataset: tuple[Any, Dataset], tmp_path: Path
) -> None:
    stimulus = Predicted(name="film", n_trs=3, first_bold_tr=LAG, phase_seconds=0.9)
    space, storage = arrays_and_dataset[1].space("01"), Storage.at(str(tmp_path))
    with open_writer(storage, plain_predictions(24, stimulus), stimulus, space, None) as writer:
        writer.add(np.arange(3), np.ones((3, 24), np.float32))
    toffset = float(nibabel.load(tmp_path / "film.nii.gz").header["toffset"])
    assert toffset == pytest.approx(LAG * 1.5 + 0.9)


def plain_predictions(n_units: int, stimulus: Predicted) -> Predictions:
    """Of a stimulus, where nothing else matters."""
    return Predictions(
        model=Model(asked="m", version=None, run_id=None, checkpoint="m", weights="0", score=None),
        dataset=Films(location="d", checksum="0"),
        tr_seconds=1.5,
        lag_trs=stimulus.first_bold_tr,
        value=ValueType(dtype="float32", shape=(n_units,)),
        masked_voxels=0,
        space=WrittenSpace(kind="array", endings=(".npy",), files={}),
        stimuli=(stimulus,),
    )


def test_record_says_what_was_predicted_with_what(
    finished: tuple[Summary, PredictJob], checkpoint: Path
) -> None:
    summary, job = finished
    out = Path(summary.out)
    record = json.loads((out / "predictions.json").read_text())
    assert record["model"]["weights"] == read_record(checkpoint).weights_checksum
    assert record["model"]["checkpoint"] == str(checkpoint)
    assert record["dataset"]["checksum"] == Dataset.open(job.dataset).manifest.checksum
    assert (record["lag_trs"], record["tr_seconds"], record["masked_voxels"]) == (LAG, 1.5, 2)
    blob = Dataset.open(job.dataset).blob("blobs/mask.nii.gz")
    assert record["space"]["files"] == {"mask.nii.gz": hashlib.sha256(blob).hexdigest()}
    assert "z-scored" in record["units"]
    listed = [
        file
        for stimulus in record["stimuli"]
        for of_kind in stimulus["files"].values()
        for file in of_kind
    ]
    assert {file["path"] for file in listed} | {"predictions.json"} == {
        path.name for path in out.iterdir()
    }
    for file in listed:
        content = (out / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            file["bytes"],
            file["sha256"],
        )
    rows = summary.rows()
    assert rows["TRs"] == "200 of 2 stimuli, BOLD from TR 3 on"
    assert rows["voxels"].startswith("24, 2 of them NaN")


def test_finished_predictions_are_left_as_they_are(finished: tuple[Summary, PredictJob]) -> None:
    summary, job = finished
    before = {path: path.stat().st_mtime_ns for path in Path(summary.out).iterdir()}
    lines: list[str] = []
    again = predict(job, lines.append)
    assert again.already_finished
    assert "finished already" in lines[0]
    assert again.predictions == summary.predictions
    assert {path: path.stat().st_mtime_ns for path in Path(summary.out).iterdir()} == before


def test_a_folder_that_another_job_works_on_is_left_to_it(
    job: Callable[..., PredictJob], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with holder(str(out)):
        (out / "UNFINISHED").touch()
        (out / "one.parquet").touch()
        before = set(out.iterdir())
        for overwrite in (False, True):
            with pytest.raises(InputError, match=r"out: another job works on it, .* another --out"):
                predict(job(overwrite=overwrite), pytest.fail)
        assert set(out.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_started(
    job: Callable[..., PredictJob], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out: cannot be written: ") as error:
        predict(job(out=str(tmp_path / "file/out")), pytest.fail)
    assert "\n" not in str(error.value)


def test_films_without_scans_are_predicted_in_place_of_others(
    finished: tuple[Summary, PredictJob],
    checkpoint: Path,
    dataset_writer: Callable[..., dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    """Another data set, of two films of which one is asked for."""
    out = Path(shutil.copytree(finished[0].out, tmp_path / "out"))
    arrays = dataset_writer(tmp_path / "new", {"three": 41, "four": 33}, (), seed=5)
    settings = {"dataset": str(tmp_path / "new"), "out": str(out), "stimuli": ("three",)}
    with pytest.raises(InputError, match=r"holds other predictions: its data set is"):
        predict(PredictJob(model=str(checkpoint), **settings), print)
    predict(PredictJob(model=str(checkpoint), overwrite=True, **settings), print)
    assert {path.name for path in out.iterdir()} == {
        "three.parquet",
        "three.nii.gz",
        "predictions.json",
    }
    trs, bold_TV = read(out / "three.parquet")
    np.testing.assert_array_equal(trs, np.arange(LAG, 41 + LAG))
    wanted = expected(checkpoint, arrays, "three")
    np.testing.assert_allclose(bold_TV, wanted, rtol=0, atol=ROUNDING * np.nanstd(wanted))


def test_context_is_found_whatever_the_size_of_rows_and_of_what_ray_makes_of_them(
    cluster: None,
    local_training: Callable[..., Any],
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of rows so large that a block holds a batch of 10, with 13 TRs of context before them."""
    arrays, dataset = arrays_and_dataset
    local_training(model={"memory": "conv", "norm": "layer"}, train={"epochs": 1}).train(
        tmp_path / "run"
    )
    encoder = Encoder.load(tmp_path / "run")
    assert encoder.model.context_trs == 13
    monkeypatch.setattr("giblet_ray.prediction.task._BLOCK_BYTES", 1)
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 2**16)
    where = {"model": str(tmp_path / "run"), "dataset": dataset.storage.location}
    predict(PredictJob(**where, out=str(tmp_path / "out"), batch_trs=10), print)
    for film in dataset.stimuli:
        parts = {part: arrays[f"{part}/{film}.parquet"] for part in encoder.shapes.parts}
        wanted = encoder.predict(**parts)
        _, bold_TV = read(tmp_path / f"out/{film}.parquet")
        np.testing.assert_allclose(bold_TV, wanted, rtol=0, atol=ROUNDING * np.nanstd(wanted))


def test_a_film_without_sound_is_predicted_by_a_model_with_modality_dropout(
    cluster: None,
    checkpoint: Path,
    dataset_writer: Callable[..., dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    """As by the encoder that is given no codes, or told in MLflow that its codes mean nothing."""
    arrays = dataset_writer(tmp_path / "new", {"three": 41}, (), seed=5)
    take_part(tmp_path / "new", "codes")
    settings = {"dataset": str(tmp_path / "new"), "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match=r"codes/ holds nothing; .*; --without codes predicts"):
        predict(PredictJob(model=str(checkpoint), **settings), print)
    made = predict(PredictJob(model=str(checkpoint), without=("audio",), **settings), print)
    assert made.rows()["without"] == "codes"
    encoder = Encoder.load(checkpoint)
    values = {part: arrays[f"{part}/three.parquet"] for part in ("frames", "text")}
    wanted = encoder.predict(**values)
    _, bold_TV = read(tmp_path / "out/three.parquet")
    np.testing.assert_allclose(bold_TV, wanted, rtol=0, atol=ROUNDING * np.nanstd(wanted))
    noise = np.random.default_rng(0).integers(0, 1024, (41, 2, 112), dtype=np.int16)
    served = ServedEncoder(encoder).predict({**values, "codes": noise}, {"without": "codes"})
    np.testing.assert_array_equal(served, wanted)
    whole = expected(checkpoint, arrays, "three")
    assert np.nanmax(np.abs(whole - wanted)) > 0.1 * np.nanstd(wanted)
    with pytest.raises(InputError, match=r"^code: the model reads .* \(did you mean codes\?\)$"):
        encoder.predict(**values, code=noise)


def take_part(folder: Path, part: str) -> None:
    """Take a part out of a data set's manifest."""
    manifest = Dataset.open(str(folder)).manifest.model_dump()
    del manifest["parts"][part]
    for stimulus in manifest["stimuli"]:
        for phase in stimulus["phases"]:
            del phase["shards"][part]
    write_manifest(Storage.at(str(folder)), Manifest(**manifest))


def test_damaged_film_leaves_nothing_and_is_named(
    cluster: None, job: Callable, arrays_and_dataset: tuple[Any, Dataset], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(arrays_and_dataset[1].storage.location, tmp_path / "data"))
    shard = copy / "frames/two.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    message = r"frames/two.parquet: changed since .*, or damaged"
    with pytest.raises(InputError, match=message) as error:
        predict(job(dataset=str(copy)), print)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_model_that_workers_cannot_import_is_told_at_once_in_one_line(
    cluster: None, job: Callable, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package lies where this process alone looks."""
    (tmp_path / "only_here.py").write_text(
        "from giblet_ray.models.multimodal.model import Multimodal as Mine"
    )
    monkeypatch.syspath_prepend(tmp_path)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    record = json.loads((copy / "record.json").read_text())
    record["config"]["model"]["kind"] = "only_here:Mine"
    (copy / "record.json").write_text(json.dumps(record))
    lines: list[str] = []
    with pytest.raises(InputError, match=r"model.kind only_here:Mine: .*only_here") as error:
        predict(job(model=str(copy), packages=("only_here",)), lines.append)
    assert "\n" not in str(error.value)
    assert not any("lost" in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_model_that_predicts_no_number_is_refused(
    cluster: None, job: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "diverged"))
    weights = load_file(copy / "model.safetensors")
    weights["head.group.4.bias"][5] = np.nan
    save_file(weights, copy / "model.safetensors")
    sign(copy, "model.safetensors")
    with pytest.raises(InputError, match=r"stimulus one, TR 0: the model predicts a number that i"):
        predict(job(model=str(copy)), print)
    assert not (tmp_path / "out").exists()
