"""From what memory gives to the units.

Shapes: N rows, F features, V units.
"""

from __future__ import annotations

from torch import nn

from giblet_ray.models._layers import hidden_layer
from giblet_ray.models.multimodal.config import MultimodalConfig

FULL_DROPOUT = 0.3


def build_head(settings: MultimodalConfig, n_features: int, n_units: int) -> nn.Sequential:
    """Return a head, (N, F) -> (N, V), whose last layer is linear."""
    before: list[nn.Module] = []
    width = n_features
    if settings.head == "full":
        width = settings.head_dim
        rate = FULL_DROPOUT if settings.dropout is None else settings.dropout
        before = [*hidden_layer(n_features, width, rate, settings.norm)]
    elif settings.head == "low_rank":
        width = settings.head_rank
        before = [nn.Linear(n_features, width, bias=False)]
    return nn.Sequential(*before, nn.Linear(width, n_units))
