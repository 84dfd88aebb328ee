"""One head for all subjects, one for each, and one for nobody in particular."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from small_models import film, small_model, windows_of
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.predictor import GROUP

ALIKE = {"01": 9, "02": 9, "03": 9}
DIFFERENT = {"01": 50, "02": 70, "03": 400}
SUBJECT = torch.tensor([2, 0, 2, 1, 0])
LENGTHS = [8, 8, 3, 8, 1]


def predict(model: Multimodal, subject: Tensor = SUBJECT) -> dict[int, Tensor]:
    values, exists = windows_of(film(60), [0, 8, 40, 24, 50], LENGTHS, model.context_trs)
    return model(values, exists, subject)


@pytest.mark.parametrize("head", ["full", "low_rank", "linear"])
@pytest.mark.parametrize("units", [ALIKE, DIFFERENT], ids=["alike", "different"])
def test_each_subject_has_a_head_of_its_own_units(head: str, units: dict[str, int]) -> None:
    model = small_model(units, heads="subject", head=head, head_dim=6, head_rank=2).train()
    assert model.tells_subjects_apart
    assert model.has_group_head == (units is ALIKE)
    predicted = predict(model)
    assert {index: tuple(bold.shape) for index, bold in predicted.items()} == {
        0: (2, 8, units["01"]),
        1: (1, 8, units["02"]),
        2: (2, 8, units["03"]),
    }
    sum((bold * torch.randn(bold.shape)).sum() for bold in predicted.values()).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("units", [ALIKE, DIFFERENT], ids=["alike", "different"])
def test_a_subjects_rows_move_no_other_subjects_head(units: dict[str, int]) -> None:
    model = small_model(units, heads="subject").train()
    predict(model)[2].square().sum().backward()
    last = [own[-1] if units is DIFFERENT else own for own in model.head.own]
    gradients = [each.weight.grad for each in last]
    assert [each is not None and bool(each.any()) for each in gradients] == [False, False, True]


def test_subjects_begin_as_the_group_and_deviate_from_it() -> None:
    model = small_model(ALIKE, heads="subject").eval()
    nobody = predict(model, torch.full((5,), GROUP))[GROUP]
    of_windows = {0: [1, 4], 1: [3], 2: [0, 2]}
    for index, bold in predict(model).items():
        assert torch.equal(bold, nobody[of_windows[index]])
    torch.nn.init.constant_(model.head.own[1].bias, 2.0)
    after = predict(model)
    assert torch.equal(after[0], nobody[[1, 4]])
    torch.testing.assert_close(after[1], nobody[[3]] + 2)


def test_of_one_subject_the_head_is_the_groups() -> None:
    model = small_model({"01": 9}, heads="subject").eval()
    assert not len(model.head.own)
    nobody, subject = (predict(model, torch.full((5,), index)) for index in (GROUP, 0))
    assert torch.equal(nobody[GROUP], subject[0])


def test_without_units_in_common_there_is_no_head_for_nobody() -> None:
    model = small_model(DIFFERENT, heads="subject").eval()
    with pytest.raises(InputError, match=r"heads of 01, 02, 03, whose units differ, and none"):
        predict(model, torch.full((5,), GROUP))
    for settings in ({"heads": "shared"}, {"heads": "subject", "subject_dropout": 0.1}):
        with pytest.raises(InputError, match=r"differ in their number of units \(01: 50"):
            small_model(DIFFERENT, **settings)


def test_subject_dropout_trains_the_groups_head_alone_on_part_of_the_windows() -> None:
    model = small_model(ALIKE, heads="subject", subject_dropout=0.5).train()
    for own in model.head.own:
        torch.nn.init.constant_(own.bias, 5.0)
    n = 64
    values, exists = windows_of(film(60), [20] * n, [4] * n, model.context_trs)
    nobody = model(values, exists, torch.full((n,), GROUP))[GROUP]
    torch.manual_seed(3)
    deviation = model(values, exists, torch.ones(n, dtype=torch.long))[1] - nobody
    kept = deviation.mean((1, 2)) > 2.5
    torch.testing.assert_close(deviation, 5.0 * kept[:, None, None].expand_as(deviation))
    assert 16 <= int(kept.sum()) <= 48
    model.eval()
    whole = model(values, exists, torch.ones(n, dtype=torch.long))[1] - nobody
    torch.testing.assert_close(whole, torch.full_like(whole, 5.0))


def test_windows_without_any_row_are_predicted_as_nothing() -> None:
    model = small_model(DIFFERENT, heads="subject").eval()
    values, exists = windows_of(film(60), [-20, -20], [4, 4], model.context_trs)
    predicted = model(values, exists, torch.tensor([1, 0]))
    assert {index: tuple(bold.shape) for index, bold in predicted.items()} == {
        0: (1, 4, 50),
        1: (1, 4, 70),
    }
    assert not any(bold.any() for bold in predicted.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "full", "norm": "batch", "memory": "none"}, "norm layer or none is accepted"),
        ({"head": "full", "norm": "batch", "heads": "shared"}, "norm layer or none is accepted"),
        ({"heads": "shared", "subject_dropout": 0.1}, "subject_dropout is of heads subject"),
        ({"memory": "transformer", "bottleneck_dim": 6}, "attention_heads is 4; a divisor"),
        ({"trunk_dims": (5, 0)}, "greater than 0"),
        ({"trunk_dims": "none", "linear_skip": True}, "trunk_dims none is linear already"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MultimodalConfig(**settings)
