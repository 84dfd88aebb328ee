"""A rank's training: resuming, what it reports, when it stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalLink
from safetensors.torch import load_file

from giblet_ray.checkpoint.record import Position
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.training.config import TrainConfig
from giblet_ray.training.finished import is_finished


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the latest checkpoint."""
    return load_file(sorted(folder.glob("epoch-*"))[-1] / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


RESUMED = {"epochs": 3, "batch_trs": 16, "checkpoint_every_steps": 5}


def epoch_losses(link: LocalLink) -> list[float]:
    """Return what was reported of each epoch's training loss."""
    return [metrics["train/loss"] for metrics in link.reports if "train/loss" in metrics]


@pytest.fixture(scope="module")
def undisturbed(
    local_training: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[float]]:
    """Folder of a training of three epochs, and their losses."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, epoch_losses(local_training(train=RESUMED).train(folder))


@pytest.mark.parametrize(
    "die_at",
    [
        pytest.param(lambda m: m.get("epoch") == 2, id="after epoch 2"),
        pytest.param(lambda m: m.get("step") == 30, id="in the middle of epoch 3"),
    ],
)
def test_resumed_run_ends_with_the_same_weights_and_losses(
    local_training: Callable,
    undisturbed: tuple[Path, list[float]],
    tmp_path: Path,
    die_at: Callable[[dict[str, float]], bool],
) -> None:
    training = local_training(train=RESUMED)
    with pytest.raises(Exception, match="killed here"):
        training.train(tmp_path, die_at)
    link = training.train(tmp_path)
    assert "continuing" in link.lines[0]
    assert_same_weights(undisturbed[0], tmp_path)
    assert epoch_losses(link) == undisturbed[1][2:]


LEARNED_LR = 1e-2


@pytest.fixture(scope="module")
def learned(local_training: Callable, tmp_path_factory: pytest.TempPathFactory) -> LocalLink:
    """A training that is long enough to learn, each step of which is told."""
    train = {"epochs": 6, "batch_trs": 16, "log_every_steps": 1}
    model = {"dropout": 0.0}
    training = local_training(train=train, optimizer={"lr": LEARNED_LR}, model=model)
    return training.train(tmp_path_factory.mktemp("learned"))


def test_training_learns(learned: LocalLink) -> None:
    epochs = [metrics for metrics in learned.reports if "epoch" in metrics]
    assert epochs[-1]["train/loss"] < 0.8 * epochs[0]["train/loss"]
    assert epochs[-1]["val/pearson_mean"] > 0.15


def test_learning_rate_peaks_at_what_was_set(learned: LocalLink) -> None:
    rates = [m["train/lr"] for _, m in learned.points if "train/lr" in m]
    assert max(rates) == pytest.approx(LEARNED_LR)
    assert rates[0] < LEARNED_LR / 2
    assert rates[-1] < LEARNED_LR / 10


@pytest.mark.parametrize("modalities", [("video",), ("audio",), ("text",), ("text", "video")])
def test_any_subset_of_modalities_trains(
    local_training: Callable, tmp_path: Path, modalities: tuple[str, ...]
) -> None:
    training = local_training(data={"modalities": modalities}, train={"epochs": 1, "batch_trs": 32})
    assert len(training.train(tmp_path).reports) == 1


def test_windows_and_accumulation_give_the_loss_of_the_whole_batch(
    local_training: Callable, tmp_path: Path
) -> None:
    """Without dropout and batch statistics, parts of a batch add up to the batch (MSE)."""
    exact = {"model": {"dropout": 0.0, "batch_norm": "frozen"}, "loss": {"correlation_weight": 0}}
    losses = []
    for parts in (1, 3):
        settings = {"epochs": 2, "batch_trs": 32, "accumulation": parts, "log_every_steps": 1}
        link = local_training(**exact, data={"window": 2}, train=settings).train(
            tmp_path / str(parts)
        )
        losses.append([m["step/loss"] for _, m in link.points if "step/loss" in m])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_windows_of_several_trs_train_on_every_tr_and_on_nothing_else(
    local_training: Callable, tmp_path: Path
) -> None:
    """All TRs in one batch have one loss (MSE), however they are cut; some windows are shorter."""
    exact = {"model": {"dropout": 0.0, "batch_norm": "frozen"}, "loss": {"correlation_weight": 0}}
    losses, counts = [], []
    for window in (1, 7):
        data = {"window": window}
        n_trs = window * len(local_training(data=data).data.train)
        settings = {"epochs": 1, "batch_trs": n_trs, "log_every_steps": 1}
        training = local_training(**exact, data=data, train=settings)
        lengths = training.data.train.length
        assert set(lengths.tolist()) > {window} or window == 1
        counts.append(lengths.sum())
        link = training.train(tmp_path / str(window))
        losses.append([m["step/loss"] for _, m in link.points if "step/loss" in m])
    assert counts[0] == counts[1]
    assert len(losses[0]) == len(losses[1]) == 1
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_early_stopping_waits_for_patience() -> None:
    def after(*losses: float) -> Position:
        history = [{"epoch": e, "val/loss": loss} for e, loss in enumerate(losses, start=1)]
        return Position(epoch=len(losses), history=history)

    patient = TrainConfig(epochs=10, patience=2, score="val/loss")
    assert not is_finished(after(3, 1, 1), patient)
    assert is_finished(after(3, 1, 1, 1), patient)
    assert is_finished(after(math.nan, math.nan), patient)
    assert is_finished(after(*range(10, 0, -1)), patient)
    assert not is_finished(after(1, *range(2, 10)), patient.model_copy(update={"patience": 0}))


def test_training_stops_when_nothing_gets_better(local_training: Callable, tmp_path: Path) -> None:
    settings = {"epochs": 6, "batch_trs": 16, "patience": 2}
    exact = {"model": {"dropout": 0.0, "batch_norm": "frozen"}}
    link = local_training(**exact, optimizer={"lr": 1e-30}, train=settings).train(tmp_path)
    assert [m["epoch"] for m in link.reports] == [1, 2, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_learns(local_training: Callable, tmp_path: Path) -> None:
    training = local_training(
        train={"epochs": 12, "batch_trs": 16}, optimizer={"lr": 3e-3}, model={"dropout": 0.0}
    )
    epochs = training.train(tmp_path, device="cuda").reports
    assert epochs[-1]["train/loss"] < 0.8 * epochs[0]["train/loss"]


def test_a_loss_that_is_not_finite_stops_the_training(
    local_training: Callable, tmp_path: Path
) -> None:
    training = local_training(
        optimizer={"lr": 1e18, "max_grad_norm": 1e18, "warmup_fraction": 0.0},
        train={"epochs": 3, "batch_trs": 16},
    )
    with pytest.raises(InputError, match=r"diverged"):
        training.train(tmp_path)


def test_best_checkpoint_loads_in_one_line(
    undisturbed: tuple[Path, list[float]], arrays_and_dataset: tuple
) -> None:
    arrays, dataset = arrays_and_dataset
    encoder = Encoder.load(undisturbed[0], dataset)
    bold = encoder.predict(
        frames=arrays["frames/one.parquet"][:5],
        codes=arrays["codes/one.parquet"][:5],
        text=arrays["text/one.parquet"][:5],
    )
    assert bold.shape == (5, 24)
    assert np.isfinite(bold).all()


def test_encoder_refuses_a_data_set_of_another_tr(
    undisturbed: tuple[Path, list[float]], arrays_and_dataset: tuple
) -> None:
    encoder = Encoder.load(undisturbed[0])
    slower = encoder.record.dataset.model_copy(update={"tr_seconds": 2.0})
    encoder.record = encoder.record.model_copy(update={"dataset": slower})
    with pytest.raises(InputError, match=r"TR is 1.5 s; the model was trained at 2 s"):
        encoder.check(arrays_and_dataset[1])


def test_checkpoint_holds_no_pickled_code(undisturbed: tuple[Path, list[float]]) -> None:
    folder = sorted(undisturbed[0].glob("epoch-*"))[-1]
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.safetensors",
        "normalisation.safetensors",
        "optimizer-model.safetensors",
        "record.json",
        "space-mask.nii.gz",
        "voxels.safetensors",
    ]


def test_r_of_a_held_out_film_does_not_follow_the_offset_and_scale_of_a_scan(
    dataset_writer: Callable, train_locally: Callable, tiny_model: dict[str, Any], tmp_path: Path
) -> None:
    def shifted(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold * 1.5 + 20 if key == ("02", "two", 1) else bold

    found = []
    for name, change in (("plain", lambda _, bold: bold), ("shifted", shifted)):
        folder = tmp_path / name
        dataset_writer(
            folder, {"one": 83, "two": 60, "three": 40}, ("01", "02"), change_bold=change
        )
        job = TrainJob(
            dataset=str(folder),
            data={"split": {"kind": "stimuli", "val_stimuli": ["two"], "test_stimuli": ["three"]}},
            model=tiny_model,
            train={"epochs": 1, "batch_trs": 16},
        )
        found.append(
            [metrics["val/pearson_mean"] for metrics in train_locally(job, folder / "run").reports]
        )
    assert found[0] == pytest.approx(found[1], abs=1e-6)
