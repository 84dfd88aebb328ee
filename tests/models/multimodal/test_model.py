"""The multimodal encoder over time: films in pieces, rows that do not exist, memory and none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import UNITS, film, shapes_of, small_model, windows_of
from torch import Tensor

from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.predictor import build_predictor

KINDS: dict[str, dict[str, Any]] = {
    "none": {"memory": "none"},
    "hrf": {"memory": "hrf"},
    "one filter": {"memory": "hrf", "filters": 1},
    "conv": {"memory": "conv"},
    "deep conv": {"memory": "conv", "memory_layers": 4},
    "transformer": {"memory": "transformer", "attention_heads": 5},
    "shallow transformer": {"memory": "transformer", "attention_heads": 1, "memory_layers": 1},
}
WITH_MEMORY = [name for name in KINDS if name != "none"]
N_TRS = 40
SMALL: dict[str, Any] = {
    "inputs": "vectors",
    "trunk_dims": (7,),
    "bottleneck_dim": 5,
    "head_dim": 4,
}


def predict(
    model: Multimodal, rows: dict[str, Tensor], starts: list[int], lengths: list[int]
) -> Tensor:
    values, exists = windows_of(rows, starts, lengths, model.context_trs)
    return model(values, exists, torch.zeros(len(starts), dtype=torch.long))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_of_pieces_is_that_of_the_whole_film(kind: str) -> None:
    model = small_model(**KINDS[kind]).eval()
    rows = film(N_TRS)
    whole_TV = predict(model, rows, [0], [N_TRS])[0]
    starts, lengths = [0, 1, 3, 11, 30], [8, 4, 8, 1, 8]
    pieces = predict(model, rows, starts, lengths)
    for piece, start, length in zip(pieces, starts, lengths, strict=True):
        torch.testing.assert_close(piece[:length], whole_TV[start : start + length])


@pytest.mark.parametrize("kind", WITH_MEMORY)
def test_the_order_of_earlier_trs_counts_as_far_as_the_context_reaches(kind: str) -> None:
    model = small_model(**KINDS[kind]).eval()
    rows = film(N_TRS)
    start = 20
    before = start - model.context_trs
    order = torch.arange(N_TRS)
    order[before:start] = order[before:start].roll(2)
    shuffled = predict(model, {name: value[order] for name, value in rows.items()}, [start], [1])
    expected = predict(model, rows, [start], [1])
    assert (shuffled - expected).abs().max() > 1e-3
    order = torch.arange(N_TRS)
    order[:before] = order[:before].flip(0)
    unseen = predict(model, {name: value[order] for name, value in rows.items()}, [start], [1])
    assert torch.equal(unseen, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_rows_that_do_not_exist_contribute_nothing_whatever_they_hold(kind: str, norm: str) -> None:
    starts, lengths = [0, 2, 15], [6, 3, 5]
    head = "linear" if norm == "batch" and kind in WITH_MEMORY else "full"
    results = []
    for spoilt in (False, True):
        model = small_model(**KINDS[kind], norm=norm, head=head, head_dim=8).train()
        values, exists = windows_of(film(N_TRS), starts, lengths, model.context_trs)
        if spoilt:
            values = {n: v.masked_fill(~exists[..., None], float("nan")) for n, v in values.items()}
        bold = model(values, exists, torch.zeros(3, dtype=torch.long))[0]
        assert torch.isfinite(bold).all()
        bold = bold[exists[:, model.context_trs :]]
        bold.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results.append([bold.detach(), *gradients, *model.buffers()])
    for found, expected in zip(*results, strict=True):
        assert torch.isfinite(found).all()
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dropped", [(), ("motion",), ("words",)])
def test_a_model_with_modality_dropout_predicts_without_a_part(dropped: tuple[str, ...]) -> None:
    model = small_model(modality_dropout=0.5).eval()
    rows = film(N_TRS)
    values, exists = windows_of(rows, [0, 12], [8, 8], model.context_trs)
    subject = torch.zeros(2, dtype=torch.long)
    found = model({n: v for n, v in values.items() if n not in dropped}, exists, subject)[0]
    # What a part that enters as it is lacks is 0.
    silent = {n: v * (n not in dropped) for n, v in values.items()}
    assert torch.equal(found, model(silent, exists, subject)[0])
    with pytest.raises(InputError, match="motion, words: missing; the model reads motion, words"):
        model({}, exists, subject)
    with pytest.raises(InputError, match=r"motion: missing; .* --model.modality_dropout"):
        small_model()({"words": values["words"]}, exists, subject)


@pytest.mark.parametrize("trains", ["all", "heads"])
def test_modality_dropout_takes_parts_from_windows_in_training_by_its_seed(trains: str) -> None:
    model = small_model(modality_dropout=0.5).train()
    if trains == "heads":
        model.eval().head.train()
    n = 64
    values, exists = windows_of(film(N_TRS), [20] * n, [4] * n, model.context_trs)
    subject = torch.zeros(n, dtype=torch.long)
    torch.manual_seed(5)
    bold = model(values, exists, subject)[0]
    torch.manual_seed(5)
    assert torch.equal(model(values, exists, subject)[0], bold)
    # All windows are alike but for the parts they lack: none, the first or the second.
    kinds, counts = bold.detach().round(decimals=4).flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 3
    assert counts.min() >= 6
    whole = model.eval()(values, exists, subject)[0].round(decimals=4).flatten(1)[0]
    assert int((kinds == whole).all(1).sum()) == 1


@pytest.mark.parametrize("lag", [0, 3])
def test_a_filter_that_is_a_delta_makes_it_the_model_of_one_lag(lag: int) -> None:
    model = small_model(memory="hrf", filters=1).eval()
    one_lag = small_model(memory="none").eval()
    weights = {n: v for n, v in model.state_dict().items() if not n.startswith("memory.")}
    one_lag.load_state_dict(weights)
    delta = torch.zeros_like(model.memory.response_KL)
    delta[:, lag] = 1
    with torch.no_grad():
        model.memory.deviation_DKL.copy_(delta - model.memory.response_KL)
    rows = film(N_TRS)
    found = predict(model, rows, [10], [12])[0]
    expected = predict(one_lag, rows, [10 - lag], [12])[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_a_linear_skip_is_all_there_is_at_first(norm: str) -> None:
    model = small_model(linear_skip=True, trunk_dims=(7, 6), norm=norm).train()
    one, other = film(N_TRS, seed=1), film(N_TRS, seed=2)
    both = {name: one[name] + other[name] for name in one}
    nothing = {name: torch.zeros_like(value) for name, value in one.items()}

    def sums() -> tuple[Tensor, Tensor]:
        found = [predict(model, rows, [10], [20]) for rows in (one, other, both, nothing)]
        return found[0] + found[1], found[2] + found[3]

    torch.testing.assert_close(*sums())
    predict(model, one, [10], [20]).square().sum().backward()
    of_skip, of_trunk = (
        torch.nn.utils.get_total_norm([weights.grad for weights in module.parameters()])
        for module in (model.encoder.skip, model.encoder.layer7_bottleneck)
    )
    assert 0 < of_trunk < 10 * of_skip
    torch.nn.init.normal_(model.encoder.layer7_bottleneck[-1].weight)
    assert not torch.allclose(*sums())


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_gated_layers_learn_products(norm: str) -> None:
    model = small_model(activation="gated", trunk_dims=(3,), norm=norm, memory="none").eval()
    rows = film(N_TRS)
    layer = model.encoder.hidden_layers[0]
    x = torch.cat([rows[name] for name in model.inputs], dim=1)
    first, second = layer[0].factors(x).chunk(2, dim=1)
    products = first * second
    if norm == "none":
        torch.testing.assert_close(layer(x), products)
    else:
        torch.testing.assert_close(layer(x), layer[1](products))
    predict(model.train(), rows, [0, 20], [8, 8]).square().sum().backward()
    assert layer[0].factors.weight.grad.any()


def test_a_linear_head_predicts_nothing_before_it_has_learned() -> None:
    for head in ("linear", "low_rank"):
        model = build_predictor(MultimodalConfig(**SMALL, head=head), shapes_of()).train()
        values, exists = windows_of(film(N_TRS), [0, 16], [8, 8], model.context_trs)
        bold = model(values, exists, torch.zeros(2, dtype=torch.long))[0]
        assert not bold.any()
        (bold - torch.randn(bold.shape)).square().sum().backward()
        assert model.head.group[-1].weight.grad.any()


@pytest.mark.parametrize("trunk_dims", [(), (7,), (6, 7), (8, 7, 6)])
@pytest.mark.parametrize("head", ["full", "low_rank", "linear"])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_all_weights_learn_whatever_the_trunk_the_head_and_the_norm(
    trunk_dims: tuple[int, ...], head: str, norm: str
) -> None:
    settings: dict[str, Any] = {"head_dim": 8, "head_rank": 3, "head": head, "norm": norm}
    if (head, norm) == ("full", "batch"):  # which are refused with memory
        settings["memory"] = "none"
    model = small_model(trunk_dims=trunk_dims, **settings).train()
    values, exists = windows_of(film(N_TRS), [8, 16, 24], [8, 8, 8], model.context_trs)
    bold = model(values, exists, torch.zeros(3, dtype=torch.long))[0]
    assert bold.shape == (3, 8, UNITS)
    (bold * torch.randn(bold.shape)).sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    has_batch_norm = any(isinstance(m, torch.nn.BatchNorm1d) for m in model.modules())
    assert has_batch_norm == (norm == "batch")


def test_a_linear_trunk_and_head_are_linear_in_the_film() -> None:
    model = small_model(trunk_dims=(), head="low_rank").eval()
    one, other = film(N_TRS, seed=1), film(N_TRS, seed=2)
    both = {name: one[name] + other[name] for name in one}
    nothing = {name: torch.zeros_like(value) for name, value in one.items()}
    predicted = [predict(model, rows, [10], [20]) for rows in (one, other, both, nothing)]
    torch.testing.assert_close(predicted[0] + predicted[1], predicted[2] + predicted[3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_shapes_alone_predicts_shapes(kind: str) -> None:
    settings = MultimodalConfig(**{**SMALL, **KINDS[kind]})
    with unfilled():
        model = build_predictor(settings, shapes_of())
    values, exists = windows_of(film(N_TRS), [8, 16], [8, 8], model.context_trs)
    on_meta = {name: value.to("meta") for name, value in values.items()}
    bold = model(on_meta, exists.to("meta"), torch.zeros(2, dtype=torch.long))[0]
    assert (bold.shape, bold.device.type) == ((2, 8, UNITS), "meta")


def test_memory_reaches_back_in_seconds_and_finds_the_lag_itself() -> None:
    settings = MultimodalConfig()
    assert (settings.context_trs(1.5), settings.context_trs(0.72)) == (13, 28)
    assert settings.lag_seconds == 0
    without = MultimodalConfig(memory="none")
    assert without.context_trs(1.5) == 0
    assert without.lag_seconds == 4.5
