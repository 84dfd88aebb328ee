"""Small multimodal encoders of vectors, and films for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType

TR_SECONDS = 1.5
WIDTHS = {"motion": 6, "words": 4}
UNITS = 9


def shapes_of(units: dict[str, int] | None = None) -> Shapes:
    """Return what a model of two vectors is built for."""
    units = units or {"01": UNITS}
    numbers = {**WIDTHS, "bold": max(units.values())}
    values = {name: ValueType(dtype="float32", shape=(n,)) for name, n in numbers.items()}
    return Shapes(values, dict.fromkeys(WIDTHS, "vector"), units, TR_SECONDS)


def small_model(units: dict[str, int] | None = None, **settings: Any) -> Multimodal:
    """Build one that has memory, of vectors as they are, unless settings say otherwise."""
    chosen = {
        **{"inputs": "vectors", "norm": "layer", "trunk_dims": (7,), "bottleneck_dim": 5},
        **{"memory": "hrf", "context_seconds": 9.0, "head": "linear"},
        **{"heads": "shared", "dropout": 0.0},
        **settings,
    }
    torch.manual_seed(0)
    model = build_predictor(MultimodalConfig(**chosen), shapes_of(units))
    assert isinstance(model, Multimodal)
    whole = [model.head.group] if model.head.group is not None else model.head.own
    for head in whole:  # some predict 0 before they have learned
        torch.nn.init.normal_(head[-1].weight, std=0.2)
    return model


def film(n_trs: int, seed: int = 0) -> dict[str, Tensor]:
    """Draw the vectors of a film, (TRs, numbers) each."""
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(n_trs, n, generator=random) for name, n in WIDTHS.items()}


def windows_of(
    rows: dict[str, Tensor], starts: list[int], lengths: list[int], context_trs: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Cut windows as a loader does: 0 where a row does not exist, and what exists."""
    offsets = torch.arange(-context_trs, max(lengths))
    trs = torch.tensor(starts)[:, None] + offsets
    exists = (trs >= 0) & (offsets < torch.tensor(lengths)[:, None])
    places = torch.where(exists, trs, 0)
    values = {name: value[places] * exists[..., None] for name, value in rows.items()}
    return values, exists
