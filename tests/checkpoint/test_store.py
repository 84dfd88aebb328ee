"""Checkpoints that are kept, damaged, half written, or made to do harm."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import sign
from safetensors.torch import load_file

from giblet_ray.checkpoint.record import Position
from giblet_ray.checkpoint.store import drop_checkpoints, find_checkpoint, latest_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError

EPOCHS, STEPS_PER_EPOCH = 4, 12
TRAINING: dict[str, Any] = {
    "data": {"modalities": ["text"]},  # the quickest to learn from
    "train": {"epochs": EPOCHS, "batch_trs": 16, "checkpoint_every_steps": 5},
}

OPTIMIZER = "optimizer-model.safetensors"


def saved(run: Path) -> list[Path]:
    """Return a run's checkpoints, the latest last."""
    return sorted(path.parent for path in run.glob("*/record.json"))


def position(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())["position"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(saved(run)[-1] / "model.safetensors")


def stop_in_epoch_three(metrics: dict[str, float]) -> bool:
    return metrics.get("step") == 2 * STEPS_PER_EPOCH + 11


@pytest.fixture(scope="module")
def finished(local_training: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("finished") / "run"
    local_training(**TRAINING).train(run)
    return run


@pytest.fixture(scope="module")
def interrupted(local_training: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died right after its second checkpoint within epoch 3."""
    run = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Exception, match="killed here"):
        local_training(**TRAINING).train(run, die_at=stop_in_epoch_three)
    return run


@pytest.fixture
def run(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the interrupted run."""
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def test_the_best_and_the_latest_two_are_kept(interrupted: Path, finished: Path) -> None:
    *best, before, latest = map(position, saved(interrupted))
    assert (latest["epoch"], latest["step_in_epoch"]) == (2, 11)
    assert (before["epoch"], before["step_in_epoch"]) == (2, 6)
    assert [each["epoch"] for each in best] in ([1], [2])
    assert 2 <= len(saved(finished)) <= 3
    assert position(saved(finished)[-1])["epoch"] == EPOCHS
    scores = [each["val/pearson_mean"] for each in position(saved(finished)[-1])["history"]]
    kept = [json.loads((p / "record.json").read_text())["score"] for p in saved(finished)]
    assert max(scores) in kept


def test_what_a_killed_writer_left_is_no_checkpoint_and_goes(
    run: Path, finished: Path, local_training: Callable
) -> None:
    half = run / "epoch-0002-step-0000036"
    shutil.copytree(saved(run)[-1], half)
    (half / "record.json").unlink()
    again = run / saved(finished)[-1].name
    again.mkdir()
    (again / "model.safetensors.0123abcd.part").write_bytes(b"half")
    (run / "mine").mkdir()
    (run / "mine/notes.txt").write_text("not a checkpoint")
    link = local_training(**TRAINING).train(run)
    assert f"continuing after epoch 2, step {2 * STEPS_PER_EPOCH + 11}" in link.lines
    assert not half.exists()
    assert again in saved(run)
    assert not list(run.rglob("*.part"))
    assert (run / "mine/notes.txt").exists()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", truncate),
        ("model.safetensors", flip),
        (OPTIMIZER, flip),
        (OPTIMIZER, Path.unlink),
        ("normalisation.safetensors", flip),
        ("record.json", truncate),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_damaged_checkpoint_is_told_of_and_the_one_before_it_leads_to_the_same_weights(
    run: Path, local_training: Callable, finished: Path, name: str, damage: Callable
) -> None:
    before, latest = saved(run)[-2:]
    step = position(before)["step"]
    assert step < position(latest)["step"]
    damage(latest / name)
    link = local_training(**TRAINING).train(run)
    (told,) = [line for line in link.lines if "going back to the checkpoint before" in line]
    assert f"{latest.name}/{name}" in told
    assert f"continuing after epoch 2, step {step}" in link.lines
    expected, found = weights(finished), weights(run)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_run_without_a_whole_checkpoint_is_not_trained_anew_in_silence(
    run: Path, local_training: Callable
) -> None:
    for folder in saved(run):
        truncate(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"none of its 3 checkpoints is whole: delete") as error:
        local_training(**TRAINING).train(run)
    assert "\n" not in str(error.value)


def test_damaged_weights_do_not_predict(run: Path) -> None:
    for folder in saved(run):
        flip(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors: damaged: checksum"):
        Encoder.load(run)


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [OPTIMIZER, "model.safetensors", "normalisation.safetensors"])
def test_planted_pickle_is_refused_and_does_nothing(
    run: Path, local_training: Callable, tmp_path: Path, name: str
) -> None:
    """Whoever plants it makes the checksums right, too."""
    mark = tmp_path / "harmed"
    for folder in saved(run):
        torch.save({"optimizer": Harm(mark), "schedule": {}}, folder / name)
        sign(folder, name)
    torch.load(io.BytesIO((saved(run)[-1] / name).read_bytes()), weights_only=False)
    assert mark.exists(), "the plant itself does not work"
    mark.unlink()
    if name == "normalisation.safetensors":
        local_training(**TRAINING).train(run)  # which computes it anew, and does not read it
    else:
        with pytest.raises(InputError, match=r"not a complete checkpoint of this run") as error:
            local_training(**TRAINING).train(run)
        assert "\n" not in str(error.value)
        if name == "model.safetensors":
            with pytest.raises(InputError, match=r"not the weights of this run"):
                Encoder.load(run)
    assert not mark.exists()


def test_dropping_keeps_the_best(run: Path) -> None:
    drop_checkpoints(Storage.at(str(run.parent)), run.name)
    (left,) = saved(run)
    assert position(left)["step_in_epoch"] == 0


def best_of(run: Path) -> Path:
    return Path(find_checkpoint(str(run)).location)


def test_storage_that_fails_makes_no_other_checkpoint_the_best(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, read = best_of(run), Storage.read

    def failing(self: Storage, name: str) -> bytes:
        if best.name in name:
            raise StorageError(f"{self.describe(name)}: AWS Error SLOW_DOWN; given up")
        return read(self, name)

    before = saved(run)
    monkeypatch.setattr(Storage, "read", failing)
    with pytest.raises(StorageError, match=f"{best.name}/record.json: AWS Error SLOW_DOWN"):
        find_checkpoint(str(run))
    with pytest.raises(StorageError):
        drop_checkpoints(Storage.at(str(run.parent)), run.name)
    assert saved(run) == before


def test_a_best_checkpoint_whose_record_is_damaged_is_passed_over_aloud(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = best_of(run)
    truncate(best / "record.json")
    assert best_of(run) != best
    assert best_of(run) != best
    (said,) = caplog.messages
    assert said.startswith(f"{best}/record.json: damaged, or no checkpoint's record: ")
    assert said.endswith("; this checkpoint is passed over")
    for folder in saved(run):
        (folder / "record.json").write_text("{}")
    with pytest.raises(InputError, match=r"no checkpoint's record of version 2"):
        best_of(run)


def test_checkpoints_are_named_after_their_position() -> None:
    assert Position(epoch=2, step=39).name == "epoch-0002-step-0000039"


@pytest.fixture
def remote(finished: Path, tmp_path: Path) -> str:
    """The finished run, elsewhere; without what only training needs."""
    storage = Storage.at(f"memory://{tmp_path.name}")
    for folder in saved(finished):
        storage.store(folder, folder.name, last="record.json")
        storage.delete(f"{folder.name}/{OPTIMIZER}")
    return storage.location


def test_remote_checkpoint_is_copied_as_far_as_needed_and_leaves_nothing(
    remote: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    checkpoint = find_checkpoint(remote)
    with checkpoint.files(("voxels.safetensors",)) as folder:
        assert folder.parent == tmp_path / "temporary"
        assert {path.name for path in folder.iterdir()} == {"record.json", "voxels.safetensors"}
    found, expected = (Encoder.load(run).model.state_dict() for run in (remote, finished))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with (
        pytest.raises(InputError, match=f"{checkpoint.location}/{OPTIMIZER}: no such file"),
        checkpoint.files((OPTIMIZER,)),
    ):
        pass
    assert not list((tmp_path / "temporary").iterdir())


def test_a_sweep_s_folder_is_no_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "sweep/0000")
    assert find_checkpoint(str(tmp_path / "sweep/0000")).record.position.epoch > 0
    with pytest.raises(InputError, match=r"sweep: no checkpoint; a folder with record.json, or a"):
        find_checkpoint(str(tmp_path / "sweep"))
    assert latest_record(Storage.at(str(tmp_path)), "sweep") is None


def test_loading_a_model_does_not_load_the_compiler(run: Path) -> None:
    """Which would take seconds of every prediction's start, and of every training's end."""
    script = """
        import sys
        from giblet_ray.checkpoint.trained import Encoder
        encoder = Encoder.load(sys.argv[1])
        print(sum(parameter.numel() for parameter in encoder.model.parameters()) > 0)
        print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
        """
    command = [sys.executable, "-c", textwrap.dedent(script), str(run)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "False", "False"]
