"""What a checkpoint's record says, and whom it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import sign
from safetensors.torch import load_file, save_file

from giblet_ray.checkpoint.pieces import load_weights
from giblet_ray.checkpoint.record import RECORD, Units, read_record
from giblet_ray.errors import InputError

TRAIN = {"epochs": 2, "batch_trs": 16, "checkpoint_every_steps": 5}


def die_in_epoch_two(metrics: dict[str, float]) -> bool:
    return metrics.get("step") == 20


@pytest.fixture(scope="module")
def voxels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of chosen voxels, not in their order."""
    file = tmp_path_factory.mktemp("voxels") / "chosen.npy"
    np.save(file, np.array([3, 1, 20]))
    return file


@pytest.fixture(scope="module")
def interrupted(
    local_training: Callable, voxels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on chosen voxels that died within its second epoch."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Exception, match="killed here"):
        local_training(data={"voxels": str(voxels)}, train=TRAIN).train(run, die_in_epoch_two)
    return run


@pytest.fixture
def checkpoint(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the run's latest checkpoint."""
    return Path(shutil.copytree(sorted(interrupted.iterdir())[-1], tmp_path / "checkpoint"))


def change(checkpoint: Path, how: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((checkpoint / RECORD).read_text())
    how(record)
    (checkpoint / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda r: r.update(version=7), r"no checkpoint's record of version 2, .* it has 7"),
        (lambda r: r.pop("version"), r"no checkpoint's record of version 2, .* it has None"),
        (lambda r: r.update(mood="good"), r"damaged: mood: Extra inputs"),
        (lambda r: r["order"].update(mood="good"), r"damaged: order.mood: Extra inputs"),
        (lambda r: r["position"].update(step="far"), r"damaged: position.step: "),
        (lambda r: r["units"][0].update(n=2), r"damaged: units.0: .*2 indices of 0 to 23"),
        (lambda r: r["units"][0].update(packed="AAAA"), r"damaged: units.0: .*cannot be unpacked"),
        (
            lambda r: r["checksums"].update({"../x": ""}),
            r"'../x' is no name of a ",
        ),
        (
            lambda r: r["weights"].update(w=[{"file": "more.safetensors"}]),
            r"weights lie in more.safetensors, without a checksum",
        ),
        (
            lambda r: r["weights"].update(
                w=[{"file": "model.safetensors", "units": each} for each in ((0, 4), (5, 8))]
            ),
            r"pieces of w leave units out, or hold some twice: ",
        ),
    ],
)
def test_record_that_cannot_be_read_is_one_line(
    checkpoint: Path, how: Callable, message: str
) -> None:
    change(checkpoint, how)
    with pytest.raises(InputError, match=message) as error:
        read_record(checkpoint)
    assert "\n" not in str(error.value)


def test_record_is_read_as_it_was_written(checkpoint: Path) -> None:
    record = read_record(checkpoint)
    assert record.order.streamed is None
    assert (record.position.epoch, record.position.step) == (1, 20)
    assert isinstance(record.position.history[0]["epoch"], int)
    change(checkpoint, lambda r: r.update(score=float("nan")))
    assert np.isnan(read_record(checkpoint).score)


def test_weights_lie_in_as_many_files_as_there_were_writers(checkpoint: Path) -> None:
    """Two workers write the units that they hold; the rest lies with the first."""
    whole = load_file(checkpoint / "model.safetensors")
    of_units = [name for name, value in whole.items() if len(value.shape) and len(value) == 3]
    assert of_units
    parts = [dict(whole), {}]
    for name in of_units:
        parts[0][name], parts[1][name] = whole[name][:2].clone(), whole[name][2:].clone()
    (checkpoint / "model.safetensors").unlink()
    files = ["model-0.safetensors", "model-1.safetensors"]
    for name, part in zip(files, parts, strict=True):
        save_file(part, checkpoint / name)

    def index(record: dict[str, Any]) -> None:
        del record["checksums"]["model.safetensors"]
        record["weights"] = {name: [{"file": files[0]}] for name in whole}
        for name in of_units:
            ranges = zip(files, ((0, 2), (2, 3)), strict=True)
            record["weights"][name] = [{"file": file, "units": units} for file, units in ranges]

    change(checkpoint, index)
    sign(checkpoint, *files)
    record = read_record(checkpoint)
    assert record.weight_files == tuple(files)
    found = load_weights(checkpoint, record)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], value) for name, value in whole.items())


def test_units_are_equal_by_their_indices() -> None:
    units = Units.chosen(("01",), 24, np.array([3, 1, 20]))
    assert units.indices.tolist() == [3, 1, 20]
    assert units == Units.chosen(("01",), 24, np.array([3, 1, 20], np.int64))
    assert units != Units.chosen(("01",), 24, np.array([1, 3, 20]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"optimizer": {"lr": 0.02}},
            r"--optimizer.lr is 0.02, but run .* was started with 0.002",
        ),
        ({"train": {**TRAIN, "batch_trs": 17}}, r"--train.batch_trs is 17"),
        ({"data": {"voxels": None}}, r"other units than run .*\(all, then 3 of 24 "),
    ],
)
def test_run_is_not_continued_as_another(
    local_training: Callable, interrupted: Path, voxels: Path, settings: dict, message: str
) -> None:
    groups = {"data": {"voxels": str(voxels)}, "train": TRAIN} | settings
    with pytest.raises(InputError, match=message) as error:
        local_training(**groups).train(interrupted)
    assert "\n" not in str(error.value)


def test_other_settings_are_refused_wherever_a_checkpoint_is_taken_up(
    local_training: Callable, interrupted: Path, voxels: Path, tmp_path: Path
) -> None:
    """Another job of the run's name may save its first checkpoint after this one has looked."""
    settings = {"data": {"voxels": str(voxels)}, "train": TRAIN, "optimizer": {"lr": 0.02}}

    def begin_beside(metrics: dict[str, float]) -> bool:
        return metrics.get("step") == 5

    with pytest.raises(Exception, match="killed here"):
        local_training(**settings).train(tmp_path / "run", begin_beside)
    latest = sorted(interrupted.iterdir())[-1]
    training = local_training(**settings)
    begun = read_record(next(path for path in (tmp_path / "run").iterdir()))
    shutil.copytree(latest, tmp_path / "run" / latest.name)
    with pytest.raises(InputError, match=r"--optimizer.lr is 0.02, but run .* was started with"):
        training.train(tmp_path / "run", run=begun.run)


def test_edited_file_of_voxels_is_refused_and_a_moved_one_is_not(
    local_training: Callable, interrupted: Path, voxels: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(interrupted, tmp_path / "run")
    np.save(tmp_path / "edited.npy", np.array([3, 1, 21]))
    with pytest.raises(InputError, match=r"edited.npy: other units than run "):
        local_training(data={"voxels": str(tmp_path / "edited.npy")}, train=TRAIN).train(run)
    shutil.copy(voxels, tmp_path / "moved.npy")
    link = local_training(data={"voxels": str(tmp_path / "moved.npy")}, train=TRAIN).train(run)
    assert "continuing after epoch 1, step 20" in link.lines


@pytest.mark.parametrize("began", ["memory", "stream"])
def test_run_keeps_the_order_that_it_began_with(
    local_training: Callable, tmp_path: Path, began: str
) -> None:
    data = {"modalities": ["text"]}
    training = local_training(data=data, train=TRAIN, model={"dropout": 0.0})
    training.train(tmp_path / "whole", residence=began)
    with pytest.raises(Exception, match="killed here"):
        training.train(tmp_path / "cut", die_in_epoch_two, residence=began)
    other = "memory" if began == "stream" else "stream"
    training.train(tmp_path / "cut", residence=other)
    found, expected = (
        load_file(sorted((tmp_path / name).iterdir())[-1] / "model.safetensors")
        for name in ("cut", "whole")
    )
    assert all(torch.equal(found[name], value) for name, value in expected.items())
