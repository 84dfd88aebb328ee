"""Responses that a model has learned, read from its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from simulated import read_peaks
from small_models import TR_SECONDS, UNITS, WIDTHS, film, shapes_of, small_model, windows_of

from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.hrf import haemodynamic_response
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.multimodal.responses import learned_responses
from giblet_ray.models.predictor import build_predictor

LINEAR = {"trunk_dims": (), "context_seconds": 20.0}


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_peaks_are_those_of_the_weights_by_delay_and_number_that_enters(norm: str) -> None:
    model = small_model(**LINEAR, norm=norm, head="low_rank", head_rank=3, bottleneck_dim=4)
    torch.nn.init.normal_(model.memory.deviation_DKL, std=0.2)
    if norm == "batch":  # whose bottleneck is scaled by what was seen in training
        _, scales = model.encoder.layer7_bottleneck
        scales.running_var.copy_(torch.tensor([1e-4, 1.0, 4.0, 0.25]))
        torch.nn.init.normal_(scales.weight)
    found = learned_responses(model)
    # What a unit does in answer to one of the numbers at one TR, and nothing else.
    names, taps = list(model.inputs), model.context_trs + 1
    widths = [model.inputs[name].n_features for name in names]
    weights_VLI = np.zeros((UNITS, taps, sum(widths)))
    exists = torch.ones(1, 2 * taps - 1, dtype=torch.bool)
    subject = torch.zeros(1, dtype=torch.long)

    def answer(place: int | None) -> np.ndarray:
        rows = torch.zeros(1, 2 * taps - 1, sum(widths))
        if place is not None:
            rows[0, taps - 1, place] = 1
        values = dict(zip(names, rows.split(widths, dim=-1), strict=True))
        return model.eval()(values, exists, subject)[0][0].detach().numpy()

    for place in range(sum(widths)):
        weights_VLI[:, :, place] = (answer(place) - answer(None)).T
    np.testing.assert_allclose(found.peak_V, read_peaks(weights_VLI), atol=0.11)
    for unit, weights_LI in enumerate(weights_VLI):
        left, values, _ = np.linalg.svd(weights_LI)
        np.testing.assert_allclose(np.abs(found.kernel_VL[unit]), np.abs(left[:, 0]), atol=1e-4)
        share = values[0] ** 2 / (values**2).sum()
        np.testing.assert_allclose(found.share_V[unit], share, atol=1e-4)


@pytest.mark.parametrize("peak", [4.0, 5.25, 6.5])
@pytest.mark.parametrize("trunk_dims", [(), (7,)])
def test_a_unit_that_reads_one_filter_has_its_response(
    peak: float, trunk_dims: tuple[int, ...]
) -> None:
    model = small_model(**{**LINEAR, "trunk_dims": trunk_dims})
    which = [4.0, 5.25, 6.5].index(peak)
    head = model.head.group[-1]
    with torch.no_grad():
        weights = head.weight.unflatten(1, (-1, 3))
        weights[:, :, [k for k in range(3) if k != which]] = 0
        head.weight[2] = 0
    found = learned_responses(model)
    assert np.isnan(found.peak_V).nonzero()[0].tolist() == [2]
    others = [unit for unit in range(UNITS) if unit != 2]
    assert np.abs(found.peak_V[others] - peak).max() < 0.25  # between taps of 1.5 s
    np.testing.assert_allclose(found.share_V, [unit != 2 for unit in range(UNITS)], atol=1e-6)
    expected = haemodynamic_response(found.seconds, peak)
    np.testing.assert_allclose(
        found.kernel_VL[others], [expected / np.linalg.norm(expected)] * 8, atol=1e-5
    )
    assert found.canonical @ found.kernel_VL[0] > 0.8


def test_a_lag_of_the_data_is_part_of_every_delay() -> None:
    shapes = replace(shapes_of(), lag_trs=2)
    late = build_predictor(MultimodalConfig(inputs="vectors", **LINEAR), shapes)
    assert isinstance(late, Multimodal)
    torch.nn.init.ones_(late.head.group[-1].weight)
    found = learned_responses(late)
    np.testing.assert_allclose(found.seconds, TR_SECONDS * np.arange(2, 16))
    assert np.abs(found.peak_V - 5.25).max() < 0.5
    # Filters start where the response to what is seen so much later begins.
    starts = [haemodynamic_response(found.seconds, peak) for peak in (4.0, 5.25, 6.5)]
    for filter_L, start_L in zip(late.memory.filters()[0].detach(), starts, strict=True):
        np.testing.assert_allclose(filter_L, start_L / np.linalg.norm(start_L), atol=1e-6)


def test_a_subjects_responses_are_the_groups_and_its_deviation() -> None:
    model = small_model({"01": 5, "02": 5}, **LINEAR, heads="subject")
    group = learned_responses(model)
    assert np.array_equal(learned_responses(model, 1).kernel_VL, group.kernel_VL)
    torch.nn.init.normal_(model.head.own[1].weight)
    assert np.array_equal(learned_responses(model, 0).kernel_VL, group.kernel_VL)
    assert not np.allclose(learned_responses(model, 1).kernel_VL, group.kernel_VL)
    apart = small_model({"01": 5, "02": 3}, **LINEAR, heads="subject")
    assert learned_responses(apart, 1).kernel_VL.shape == (3, 14)
    with pytest.raises(InputError, match="no head of the group"):
        learned_responses(apart)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"memory": "conv"}, "with hrf alone"), ({"head": "full"}, "linear and low_rank heads")],
)
def test_other_models_have_no_responses_to_read(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        learned_responses(small_model(**{"head_dim": 4, **settings}))


def test_a_planted_delay_of_6_seconds_in_white_features_is_found() -> None:
    rows = film(300)
    weights = torch.randn(sum(WIDTHS.values()), UNITS, generator=torch.Generator().manual_seed(1))
    delay_trs = 4
    drive_TV = torch.cat([*rows.values()], dim=1) @ weights
    bold_TV = torch.cat([torch.zeros(delay_trs, UNITS), drive_TV[:-delay_trs]])
    model = small_model(**LINEAR, bottleneck_dim=10).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    values, exists = windows_of(rows, [0], [300], model.context_trs)
    for _ in range(150):
        loss = (model(values, exists, torch.zeros(1, dtype=torch.long))[0][0] - bold_TV).square()
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert loss.mean() < 0.1 * bold_TV.var()
    found = learned_responses(model)
    assert np.abs(found.peak_V - delay_trs * TR_SECONDS).max() < 0.3
    assert found.share_V.min() > 0.9
