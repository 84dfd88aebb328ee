"""A stack of models of random weights: which TRs and codebooks each member is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.stack.config import Member, StackConfig
from giblet_ray.models.stack.model import Stack
from giblet_ray.parts.value import ValueType

BOLD = ValueType(dtype="float32", shape=(7,))
TEXT = ValueType(dtype="float32", shape=(12,))
N = 9
"""TRs of the film."""


def codes(n: int) -> ValueType:
    return ValueType(dtype="int16", shape=(n, 112))


@pytest.fixture
def stack(tiny_model: dict[str, Any]) -> Stack:
    return stack_of(tiny_model)


def stack_of(model: dict[str, Any]) -> Stack:
    """Two encoders: one of 2 codebooks 3 TRs before, one of 3 codebooks and text 1 TR before."""

    def member(n_codebooks: int, lag_trs: int, **values: ValueType) -> Member:
        return Member(
            weights="", score=0.1, carries=0.5, lag_trs=lag_trs, context_trs=0,
            model={**model, "kind": "multimodal", "audio_codebooks": n_codebooks},
            encoders={"codes": "codes", **dict.fromkeys(values, "vector")},
            values={"codes": codes(n_codebooks), **values, "bold": BOLD},
            leading={"codes": n_codebooks},
        )  # fmt: skip

    settings = StackConfig(
        members={"early": member(2, 3), "late": member(3, 1, text=TEXT)}, subjects="shared"
    )
    encoders = {"codes": "codes", "text": "vector"}
    assert settings.leading_of(encoders) == {"codes": 3}
    assert (settings.lag_trs, settings.context_trs(1.5)) == (1, 2)
    values = {"codes": codes(3), "text": TEXT, "bold": BOLD}
    torch.manual_seed(0)
    built = build_predictor(settings, Shapes(values, encoders, {"01": 7, "02": 7}, 1.5))
    assert isinstance(built, Stack)
    return built.eval()


def film() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        "codes": torch.randint(0, 1024, (N, 3, 112), generator=random),
        "text": torch.randn(N, 12, generator=random),
    }


def window(start: int, n_trs: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return a window of the film with the stack's context, zeros before the film."""
    trs = torch.arange(start - 2, start + n_trs)
    exists = trs >= 0
    rows = {name: value[trs.clamp(min=0)] for name, value in film().items()}
    for value in rows.values():
        value[~exists] = 0
    return {name: value[None] for name, value in rows.items()}, exists[None]


def alone(stack: Stack, member: int) -> Tensor:
    """Return what a member predicts from each TR of the film, (N, V)."""
    values = {"codes": film()["codes"][None, :, : 2 + member]}
    if member:
        values["text"] = film()["text"][None]
    every = torch.ones(1, N, dtype=torch.bool)
    return stack.members[member](values, every, torch.zeros(1, dtype=torch.int64))[0][0]


@torch.no_grad()
@pytest.mark.parametrize(("start", "n_trs"), [(0, N), (0, 1), (1, 3), (4, 5)])
def test_each_member_is_given_the_trs_of_its_own_lag(stack: Stack, start: int, n_trs: int) -> None:
    weights_VM = torch.rand(7, 2)
    stack.weights[0].data = weights_VM
    subject = torch.tensor([1])
    found_WV = stack(*window(start, n_trs), subject)[1][0]
    early_NV, late_NV = alone(stack, 0), alone(stack, 1)
    # BOLD 1 TR after stimulus TR t, which is 3 TRs after t - 2; before the film nothing is seen.
    early_NV = torch.cat([torch.zeros(2, 7), early_NV[:-2]])
    wanted_NV = weights_VM[:, 0] * early_NV + weights_VM[:, 1] * late_NV
    torch.testing.assert_close(found_WV, wanted_NV[start : start + n_trs])
    stack.keep_member(0)
    torch.testing.assert_close(
        stack(*window(start, n_trs), subject)[1][0], early_NV[start : start + n_trs]
    )


@torch.no_grad()
def test_a_stack_does_without_a_part_if_each_member_that_reads_it_does(
    stack: Stack, tiny_model: dict[str, Any]
) -> None:
    stack.check_parts(("codes", "text"))
    for given, message in ((("codes",), "late: text"), (("text",), "early: codes")):
        with pytest.raises(InputError, match=f"^member {message}: missing; the model reads codes"):
            stack.check_parts(given)
    dropped = stack_of({**tiny_model, "modality_dropout": 0.2})
    dropped.check_parts(("codes",))
    with pytest.raises(InputError, match=r"^member early: codes: missing; .* at least one of them"):
        dropped.check_parts(("text",))
    dropped.weights[0].data = torch.tensor([[0.0, 1.0]]).repeat(7, 1)
    values, exists = window(0, N)
    subject = torch.tensor([0])
    found = dropped({"codes": values["codes"]}, exists, subject)[0]
    late = dropped.members[1]({"codes": values["codes"][:, 2:]}, exists[:, 2:], subject)[0]
    torch.testing.assert_close(found, late)
    assert not torch.allclose(found, dropped(values, exists, subject)[0])


def test_a_stack_is_not_trained(stack: Stack) -> None:
    with pytest.raises(InputError, match=r"made of finished runs, by jobs/promote.py --stack"):
        stack.fit(None, lambda line: None)  # type: ignore[arg-type]


def test_one_member_is_no_stack(stack: Stack) -> None:
    with pytest.raises(ValueError, match="at least 2 items"):
        StackConfig(members={"early": stack._members[0]})
