"""The kinds of memory, by the settings."""

from __future__ import annotations

import numpy as np

from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.hrf import Responses
from giblet_ray.models.multimodal.layers import Attention, Convolution, Layers, spans_of
from giblet_ray.models.predictor import Shapes

LAYER_DROPOUT = 0.2


def build_memory(
    settings: MultimodalConfig, context_trs: int, shapes: Shapes
) -> Responses | Layers | None:
    """Return what makes (B, W, n_features) of a bottleneck (B, C + W, D) and of which rows exist.

    Parameters
    ----------
    settings : MultimodalConfig
        Of the model.
    context_trs : int
        C.
    shapes : Shapes
        What it is built for.
    """
    n_inputs = settings.bottleneck_dim
    if settings.memory == "none":
        return None
    if settings.memory == "hrf":
        seconds_L = shapes.tr_seconds * (shapes.lag_trs + np.arange(context_trs + 1))
        return Responses(n_inputs, settings.filters, seconds_L)
    rate = LAYER_DROPOUT if settings.dropout is None else settings.dropout
    spans = spans_of(context_trs, settings.memory_layers)
    if settings.memory == "conv":
        return Layers([Convolution(n_inputs, span, rate) for span in spans], n_inputs)
    heads = settings.attention_heads
    return Layers([Attention(n_inputs, heads, span, rate) for span in spans], n_inputs)
