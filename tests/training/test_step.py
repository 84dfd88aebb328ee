"""A step on windows of ragged lengths: every row that exists counts once, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows, rank_part
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.predictor import Predictor, Shapes, by_subject
from giblet_ray.parts.value import ValueType
from giblet_ray.training.config import LossSettings
from giblet_ray.training.loss import Loss, OwnLoss
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.step import Ranks, Scores

CPU = torch.device("cpu")
N_NUMBERS, N_UNITS, CONTEXT = 3, 4, 2
VALID_V = np.array([True, False, True, True])
SCANS = (ScanKey("01", "one"), ScanKey("02", "one"), ScanKey("01", "two"))
SHAPES = Shapes(
    {
        "text": ValueType(dtype="float32", shape=(N_NUMBERS,)),
        "bold": ValueType(dtype="float32", shape=(N_UNITS,)),
    },
    {"text": "vector"},
    {"01": N_UNITS, "02": N_UNITS},
    1.5,
)
RANDOM = np.random.default_rng(0)
TEXT_STD = RANDOM.normal(size=(2, 40, N_NUMBERS)).astype(np.float32)
"""Of each stimulus."""
BOLD_STV = RANDOM.normal(50, 9, size=(3, 40, N_UNITS)).astype(np.float32)
"""Of each scan."""
NORMALISATION = Normalisation(
    SCANS,
    np.where(VALID_V, RANDOM.normal(50, 2, (3, N_UNITS)), 0).astype(np.float32),
    np.where(VALID_V, RANDOM.uniform(8, 10, (3, N_UNITS)), 1).astype(np.float32),
    np.tile(VALID_V, (3, 1)),
)
RAGGED = Windows(
    np.array([2, 0, 1, 1, 0, 2]), np.array([0, 4, 1, 20, 30, 9]), np.array([3, 1, 5, 2, 4, 1])
)


class Linear(Predictor):
    def __init__(self) -> None:
        super().__init__(ModelSettings(), SHAPES)
        torch.manual_seed(0)
        self.layer = nn.Linear(N_NUMBERS, N_UNITS)

    def forward(
        self, values: Mapping[str, Tensor], exists: Tensor, subject: Tensor
    ) -> dict[int, Tensor]:
        return by_subject(self.layer(values["text"][:, CONTEXT:]), subject)


class Weighed(Loss):
    """A squared error of which units count differently."""

    weight_V: Tensor

    def __init__(self, settings: LossSettings) -> None:
        super().__init__(settings)
        self.register_buffer("weight_V", torch.arange(N_UNITS))

    def forward(self, prediction_NV: Tensor, target_NV: Tensor, mask_NV: Tensor) -> Tensor:
        return ((prediction_NV - target_NV).square() * self.weight_V).mean()


def batch_of(windows: Windows) -> Batch:
    """Windows as a loader gives them, but for numbers where there is no row."""
    trs, exists = windows.rows(0, CONTEXT)
    stimulus = np.array([int(SCANS[scan].stimulus == "two") for scan in windows.scan])
    text = np.where(exists[:, :, None], TEXT_STD[stimulus[:, None], trs], 1e3)
    own = trs[:, CONTEXT:], exists[:, CONTEXT:, None]
    bold = np.where(own[1], BOLD_STV[windows.scan[:, None], own[0]], -1e6)
    values = {"text": torch.from_numpy(text).float(), "bold": torch.from_numpy(bold).float()}
    return Batch(values, torch.from_numpy(exists), windows)


def step(
    windows: Windows, accumulation: int = 1, correlation_weight: float = 0.0
) -> tuple[dict[str, float], list[Tensor]]:
    """Losses and gradients of one step."""
    job = TrainJob.model_validate(
        {
            "dataset": "d",
            "model": {"heads": "shared"},
            "train": {"accumulation": accumulation},
            "loss": {"correlation_weight": correlation_weight},
            "optimizer": {"max_grad_norm": 1e9},
        }
    )
    model, totals = Linear(), LossTotals({}, CPU)
    scores, ranks = Scores(NORMALISATION, SHAPES, job, CPU), Ranks(model, 1, CPU, False)
    scores.backward(ranks, batch_of(windows), windows.n_trs, totals)
    return totals.latest(), [parameter.grad for parameter in model.parameters()]


def test_what_a_loss_of_ones_own_holds_is_where_the_rows_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = Weighed(LossSettings(kind="my_lab:Weighed"))
    monkeypatch.setattr("giblet_ray.training.step.build_loss", lambda *_: OwnLoss(loss))
    job = TrainJob(dataset="d")
    Scores(NORMALISATION, SHAPES, job, torch.device("meta"))
    assert loss.weight_V.is_meta


def plain_rows() -> tuple[np.ndarray, np.ndarray]:
    """Stimulus and z-scored BOLD of every row that exists, one after another."""
    text, bold = [], []
    for scan, start, length in zip(RAGGED.scan, RAGGED.start, RAGGED.length, strict=True):
        mean_V, std_V = NORMALISATION.mean_SV[scan], NORMALISATION.std_SV[scan]
        for tr in range(start, start + length):
            text.append(TEXT_STD[int(SCANS[scan].stimulus == "two"), tr])
            bold.append((BOLD_STV[scan, tr] - mean_V) / std_V)
    return np.array(text, np.float64), np.array(bold, np.float64)[:, VALID_V]


def test_loss_of_ragged_windows_is_that_of_the_rows_that_exist() -> None:
    text_ND, bold_NV = plain_rows()
    assert len(text_ND) == 16
    layer = Linear().layer
    weight, bias = (p.detach().double().numpy()[VALID_V] for p in (layer.weight, layer.bias))
    error_NV = text_ND @ weight.T + bias - bold_NV
    losses, _ = step(RAGGED, correlation_weight=0.5)
    r = [
        scipy.stats.pearsonr(bold_NV[:, v] + error_NV[:, v], bold_NV[:, v]).statistic
        for v in range(3)
    ]
    assert losses["step/mse"] == pytest.approx((error_NV**2).mean(), rel=1e-5)
    assert losses["step/correlation_loss"] == pytest.approx(1 - np.mean(r), rel=1e-5)
    _, (of_weight, of_bias) = step(RAGGED)
    expected = 2 * error_NV.T @ text_ND / error_NV.size
    np.testing.assert_allclose(of_weight.numpy()[VALID_V], expected, rtol=1e-4, atol=1e-6)
    expected = 2 * error_NV.sum(axis=0) / error_NV.size
    np.testing.assert_allclose(of_bias.numpy()[VALID_V], expected, rtol=1e-4, atol=1e-6)
    assert not of_weight[~VALID_V].any()


@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_of_ranks_count_by_their_rows(ranks: int) -> None:
    """Each alone is the mean over its own rows: together they are the mean over all."""
    whole, gradients = step(RAGGED)
    shares = [rank_part(RAGGED, rank, ranks) for rank in range(ranks)]
    assert len({share.n_trs / len(share) for share in shares}) > 1
    weights = [share.n_trs / RAGGED.n_trs for share in shares]
    found = [step(share) for share in shares]
    loss = sum(w * losses["step/loss"] for w, (losses, _) in zip(weights, found, strict=True))
    assert loss == pytest.approx(whole["step/loss"], rel=1e-5)
    for index, gradient in enumerate(gradients):
        parts = [w * of_share[index] for w, (_, of_share) in zip(weights, found, strict=True)]
        torch.testing.assert_close(sum(parts), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulated_parts_are_the_step_in_one(accumulation: int) -> None:
    whole, gradients = step(RAGGED)
    losses, found = step(RAGGED, accumulation)
    assert losses["step/loss"] == pytest.approx(whole["step/loss"], rel=1e-5)
    for gradient, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
