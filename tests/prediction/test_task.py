"""What cannot be predicted is told before anything starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import sign
from safetensors.numpy import save_file

from giblet_ray.checkpoint.record import Units
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.task import plan_task


def changed(checkpoint: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """Copy a checkpoint, and change its record."""
    shutil.copytree(checkpoint, copy)
    record = json.loads((copy / "record.json").read_text())
    change(record)
    (copy / "record.json").write_text(json.dumps(record))
    return str(copy)


def test_chosen_stimuli_are_read_in_the_order_asked_for(job: Callable) -> None:
    plan = plan_task(job(stimuli=("two", "one", "two")))
    assert [s.name for s in plan.predictions.stimuli] == ["two", "one"]
    assert [s.n_trs for s in plan.predictions.stimuli] == [83, 117]
    starts = [(span.stimulus, span.start, span.stop) for span in plan.spans]
    assert starts[:2] == [("two", 0, 16), ("two", 16, 32)]
    assert starts[-1] == ("one", 112, 117)
    assert plan.selection.parts == ("frames", "codes", "text")
    assert plan.selection.leading == {"codes": 2}


def test_where_in_a_film_its_first_tr_begins_is_said(job: Callable, tmp_path: Path) -> None:
    films = str(shutil.copytree(job().dataset, tmp_path / "films"))
    content = Dataset.open(films).manifest.model_dump(mode="json")
    of_one, of_two = (stimulus["phases"] for stimulus in content["stimuli"])
    of_one[0]["seconds"] = 0.9
    for scan in content["scans"]:
        scan["onset_seconds"] = -0.9 if scan["stimulus"] == "one" else 0
    of_two.append({**of_two[0], "seconds": 0.3, "shards": {}})
    write_manifest(Storage.at(films), Manifest.model_validate(content))
    before, plan = plan_task(job()), plan_task(job(dataset=films))
    assert [film.phase_seconds for film in plan.predictions.stimuli] == [0.9, 0]
    assert plan.notes == [
        "one: TR 0 begins 0.9 s into the film",
        "two: TR 0 begins 0 s into the film, at the first of its 2 phases",
    ]
    assert before.notes == []
    same = {"dataset": before.predictions.dataset}
    assert plan.predictions.model_copy(update=same).difference(before.predictions) == (
        "its stimuli is one from 0.9 s, two, not one, two"
    )


def test_what_is_held_at_a_time_depends_on_what_is_read_and_on_what_is_predicted(
    job: Callable,
) -> None:
    plan = plan_task(job())
    rows = 32 * 2**20 // plan.selection.row_bytes(plan.dataset)
    assert (plan.trs_at_a_time(64), plan.trs_at_a_time(10**6)) == (rows, 10**6)
    value = ValueType(dtype="float32", shape=(327_684,))
    many = replace(plan, predictions=plan.predictions.model_copy(update={"value": value}))
    assert (many.trs_at_a_time(16), many.trs_at_a_time(64)) == (25, 64)


def test_run_folder_gives_its_best_checkpoint(job: Callable, checkpoint: Path) -> None:
    plan = plan_task(job(model=str(checkpoint.parent)))
    assert plan.predictions.model.checkpoint == str(checkpoint)


def test_predictions_say_whose_response_they_are(job: Callable) -> None:
    anybody, second = (plan_task(job(subject=name)).predictions for name in (None, "02"))
    assert (anybody.subject, second.subject) == (None, "02")
    assert anybody.difference(second) == "its subject is None, not 02"


def test_a_film_that_lacks_a_part_is_predicted_without_if_the_model_does_without(
    job: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    films = str(shutil.copytree(job().dataset, tmp_path / "films"))
    content = Dataset.open(films).manifest.model_dump(mode="json")
    del content["stimuli"][1]["phases"][0]["shards"]["text"]
    write_manifest(Storage.at(films), Manifest.model_validate(content))
    plan = plan_task(job(dataset=films))
    assert plan.lacking == {"text": ("two",)}
    assert [stimulus.without for stimulus in plan.predictions.stimuli] == [(), ("text",)]
    assert plan_task(job(dataset=films, without=("text",))).lacking == {}

    def train_with_all(record: dict[str, Any]) -> None:
        record["config"]["model"]["modality_dropout"] = 0.0

    model = changed(checkpoint, tmp_path / "model", train_with_all)
    told = r"stimulus two has no text/, which the model reads; choose others \(--stimuli\)$"
    with pytest.raises(InputError, match=told):
        plan_task(job(dataset=films, model=model))
    assert (
        plan_task(job(dataset=films, model=model, stimuli=("one",))).selection.parts[-1] == "text"
    )


@pytest.mark.parametrize("name", ["audio", "codes"])
def test_a_part_that_is_left_out_is_not_read(job: Callable, name: str) -> None:
    plan = plan_task(job(without=(name,)))
    assert (plan.selection.parts, plan.selection.leading) == (("frames", "text"), {})
    assert plan.predictions.without == ("codes",)
    assert plan.predictions.difference(plan_task(job()).predictions) == (
        "its parts left out is codes, not none"
    )


@pytest.mark.parametrize(
    ("dropout", "without", "message"),
    [
        (0.2, ("adio",), r"--without adio: the model reads video, audio, text \(did you mean aud"),
        (0.2, ("video", "audio", "text"), r"codes, text: missing; .* at least one of them is need"),
        (0.0, ("audio",), r"--without audio: codes: missing; .* only one with --model.modality_dr"),
    ],
)
def test_what_cannot_be_left_out_is_one_line(
    job: Callable,
    checkpoint: Path,
    tmp_path: Path,
    dropout: float,
    without: tuple[str, ...],
    message: str,
) -> None:
    def train_with(record: dict[str, Any]) -> None:
        record["config"]["model"]["modality_dropout"] = dropout

    model = changed(checkpoint, tmp_path / "model", train_with)
    with pytest.raises(InputError, match=message) as error:
        plan_task(job(model=model, without=without))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nowhere"}, r"nowhere/manifest.json: no such file"),
        ({"model": "nowhere"}, r"--model nowhere: no checkpoint; .*models:/NAME@ALIAS takes a"),
        ({"stimuli": ("on",)}, r"--stimuli: 'on' is not in .* \(did you mean one\?\); it has one,"),
    ],
)
def test_what_is_not_there_is_named(
    job: Callable, settings: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        plan_task(job(**settings))
    assert "\n" not in str(error.value)


def test_space_of_the_scans_comes_with_the_model(
    job: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    plan = plan_task(job())
    assert (plan.space.kind, plan.space.n_units, plan.units) == ("volume", 24, None)

    def choose(record: dict[str, Any]) -> None:
        record["units"] = [Units.chosen(("01", "02"), 24, np.arange(24)[::-1]).model_dump()]

    plan = plan_task(job(model=changed(checkpoint, tmp_path / "chosen", choose)))
    assert plan.units is not None
    assert plan.units.tolist() == [*range(24)][::-1]


def test_space_is_a_file_of_the_checkpoint_that_predicting_rows_does_not_need(
    job: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    mask = copy / "space-mask.nii.gz"
    mask.write_bytes(b"\x1f\x8b\x08\0")
    with pytest.raises(InputError, match=rf"^{mask}: damaged: checksum ") as error:
        plan_task(job(model=str(copy)))
    assert "\n" not in str(error.value)
    sign(copy, mask.name)
    with pytest.raises(InputError, match=rf"^{copy}: its mask cannot be read: ") as error:
        plan_task(job(model=str(copy)))
    assert "\n" not in str(error.value)
    mask.unlink()
    with pytest.raises(InputError, match=rf"^{mask}: no such file"):
        plan_task(job(model=str(copy)))
    assert Encoder.load(copy).record.dataset.spaces["01"].files == {"mask.nii.gz": mask.name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["dataset"].update(tr_seconds=2.0), r"TR is 1.5 s; the model was trained at 2"),
        (lambda r: r["dataset"]["values"]["text"].update(dtype="float16"), r"text/ holds"),
        (lambda r: r["dataset"]["made_with"].update(codes={"codec": "x"}), r"codes/ was made with"),
    ],
    ids=["TR", "dtype", "codec"],
)
def test_data_that_mean_something_else_are_refused(
    job: Callable, checkpoint: Path, tmp_path: Path, change: Callable, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_task(job(model=changed(checkpoint, tmp_path / "other", change)))


def test_damaged_record_is_one_line(job: Callable, checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "damaged"))
    (copy / "record.json").write_text("{")
    with pytest.raises(
        InputError, match=r"record.json: damaged, or no checkpoint.s record: "
    ) as error:
        plan_task(job(model=str(copy)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("group", ["model", "data"])
def test_settings_of_another_release_are_one_line(
    job: Callable, checkpoint: Path, tmp_path: Path, group: str
) -> None:
    model = changed(
        checkpoint, tmp_path / "other", lambda record: record["config"][group].update(mood="good")
    )
    told = rf"record.json: {group}.mood: Extra inputs .*; made by another release\?$"
    with pytest.raises(InputError, match=told) as error:
        plan_task(job(model=model))
    assert "\n" not in str(error.value)


def replace_weights(file: Path) -> None:
    save_file({"a": np.zeros(1)}, file)
    sign(file.parent, file.name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: os.truncate(file, file.stat().st_size - 1),
            r"model.safetensors: damaged: checksum .* of [0-9,]+ bytes; its record.json says ",
        ),
        (lambda file: file.unlink(), r"model.safetensors: no such file"),
        (replace_weights, r"model.safetensors: not the weights of this run: .*does not contain"),
    ],
    ids=["truncated", "gone", "another model's"],
)
def test_damaged_weights_are_one_line(
    job: Callable, checkpoint: Path, tmp_path: Path, damage: Callable, message: str
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "damaged"))
    damage(copy / "model.safetensors")
    with pytest.raises(InputError, match=message) as error:
        plan_task(job(model=str(copy)))
    assert "\n" not in str(error.value)


def test_checkpoint_without_its_normalisation_is_one_line(
    job: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "damaged"))
    (copy / "normalisation.safetensors").unlink()
    with pytest.raises(InputError, match=r"normalisation.safetensors: no such file") as error:
        plan_task(job(model=str(copy)))
    assert "\n" not in str(error.value)
