"""A loss of one's own: over rows, ranks and accumulated parts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.training.config import LossConfig, LossSettings
from giblet_ray.training.encoding_loss import EncodingLoss
from giblet_ray.training.loss import Loss, OwnLoss, build_loss

VALID = torch.tensor([True, False, True])


class Absolute(Loss):
    """Mean absolute error."""

    def forward(self, prediction_NV: Tensor, target_NV: Tensor, mask_NV: Tensor) -> Tensor:
        return ((prediction_NV - target_NV).abs() * mask_NV).sum() / mask_NV.sum()


class PerUnit(Loss):
    """Forgets to take the mean."""

    def forward(self, prediction_NV: Tensor, target_NV: Tensor, mask_NV: Tensor) -> Tensor:
        return (prediction_NV - target_NV).abs().mean(dim=0)


def test_parts_of_a_batch_add_up_to_its_loss_and_its_gradient() -> None:
    prediction, target = torch.randn(9, 3, requires_grad=True), torch.randn(9, 3)
    loss = OwnLoss(Absolute(LossSettings(kind="a:b")))
    valid = VALID.expand(9, 3)
    whole = loss(prediction, target, valid, 9)
    whole.objective.backward()
    gradient, prediction.grad = prediction.grad, None
    shares = (slice(0, 2), slice(2, 9))
    parts = [loss(prediction[rows], target[rows], valid[rows], 9) for rows in shares]
    sum(part.objective for part in parts).backward()  # type: ignore[union-attr]
    assert float(sum(part.loss for part in parts)) == pytest.approx(float(whole.loss))
    torch.testing.assert_close(prediction.grad, gradient)
    wanted = (prediction.detach() - target)[:, VALID].abs().mean()
    assert float(whole.loss) == pytest.approx(float(wanted))
    assert whole.logged.keys() == {"loss"}


def test_units_that_do_not_count_are_never_seen() -> None:
    prediction, target = torch.randn(4, 3), torch.randn(4, 3)
    prediction[:, 1], target[:, 1] = torch.nan, torch.inf
    loss = OwnLoss(Absolute(LossSettings(kind="a:b")))
    assert torch.isfinite(loss(prediction, target, VALID.expand(4, 3), 4).loss)
    assert loss(prediction[:0], target[:0], VALID.expand(0, 3), 4).loss == 0


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    loss = OwnLoss(PerUnit(LossSettings(kind="my_lab.losses:PerUnit")))
    with pytest.raises(InputError, match=r"my_lab\.losses:PerUnit: returned a shape of \(3,\)"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), VALID.expand(2, 3), 2)


def test_what_is_no_loss_is_refused() -> None:
    assert isinstance(build_loss(LossConfig(correlation_weight=0.2), ()), EncodingLoss)
    settings = LossSettings(kind="collections:OrderedDict")
    with pytest.raises(InputError, match="OrderedDict: is no loss; a subclass of Loss is accepted"):
        build_loss(settings, ["collections"])


def test_another_score_chooses_another_epoch(
    local_training: Callable[..., Any], tmp_path: Path
) -> None:
    """One that is better when lower: the checkpoint that is kept is that of the lowest loss."""
    settings = {"epochs": 3, "batch_trs": 16, "score": "val/mse"}
    training = local_training(train=settings, optimizer={"lr": 3e-2})
    link = training.train(tmp_path / "run")
    losses = [metrics["val/mse"] for metrics in link.reports]
    from giblet_ray.checkpoint.store import best_checkpoint
    from giblet_ray.dataset.storage import Storage

    found = best_checkpoint(Storage.at(str(tmp_path)), "run")
    assert found is not None
    best = 1 + losses.index(min(losses))
    assert f"epoch-{best:04d}" in found.location
