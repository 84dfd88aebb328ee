"""Which settings a model has, by what it is built of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType

SMALL: dict[str, Any] = {
    **{"embed_dim": 2, "audio_codebooks": 2, "kernel_sizes": (3,), "video_features": 3},
    **{"audio_features": 3, "text_features": 3, "vector_features": 3, "trunk_dims": (4,)},
    **{"bottleneck_dim": 4, "head_dim": 4, "head_rank": 2, "attention_heads": 2, "norm": "layer"},
}
OTHER: dict[str, Any] = {
    **{"embed_dim": 3, "audio_codebooks": 1, "kernel_sizes": (3, 5), "video_features": 4},
    **{"audio_features": 4, "text_features": 4, "vector_features": 4, "train_codebooks": True},
    **{"activation": "gated", "context_seconds": 10.0, "filters": 2, "memory_layers": 3},
    **{"attention_heads": 4, "head_dim": 5, "head_rank": 3, "dropout": 0.5},
}
"""Another value of each setting that some model has not."""
IMAGE, CODES, MEL = ("image", (3, 16, 16)), ("codes", (8, 112)), ("mel", (10, 112))
TEXT, CLIP = ("vector", (6,)), ("vector", (5,))
PARTS: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    "all": {"frames": IMAGE, "codes": CODES, "text": TEXT, "clip": CLIP},
    "mel": {"mel": MEL},
    "text": {"text": TEXT},
    "clip": {"clip": CLIP},
}


def built_of(parts: str, settings: dict[str, Any]) -> Any:
    """What there is of a model: its tensors, by name, its layers, and how far back it looks."""
    config = MultimodalConfig(**settings)
    types = {"image": "uint8", "codes": "int16", "mel": "float32", "vector": "float32"}
    values = {
        part: ValueType(
            dtype=types[kind],
            shape=(config.audio_codebooks, *shape[1:]) if kind == "codes" else shape,
        )
        for part, (kind, shape) in PARTS[parts].items()
    }
    values["bold"] = ValueType(dtype="float32", shape=(7,))
    encoders = {part: kind for part, (kind, _) in PARTS[parts].items()}
    with torch.device("meta"):
        model = build_predictor(config, Shapes(values, encoders, {"01": 7}, 1.5))
    tensors = model.state_dict(keep_vars=True)
    parameters = {name: (t.shape, t.requires_grad) for name, t in tensors.items()}
    read = {part: value.shape for part, value in values.items()}
    return parameters, str(model), model.context_trs, read


MEMORIES, INPUTS = ("none", "hrf", "conv", "transformer"), ("encoders", "vectors", "components")
WAYS: tuple[tuple[str, str, str, tuple[int, ...]], ...] = (
    ("all", "shared", "full", (4,)),
    ("mel", "codec", "low_rank", ()),
    ("text", "shared", "full", ()),
    ("all", "codec", "low_rank", (4,)),
    ("clip", "shared", "full", (4,)),
)
"""Parts, code_embedding, head and trunk_dims: five, and 12 kinds of memory and inputs."""


@pytest.mark.parametrize(
    ("number", "memory", "inputs"),
    [(number, *pair) for number, pair in enumerate(itertools.product(MEMORIES, INPUTS))],
)
def test_a_setting_is_unused_where_another_value_builds_the_same_model(
    number: int, memory: str, inputs: str
) -> None:
    for way in (number, number + 2):
        parts, codes, head, trunk = WAYS[way % len(WAYS)]
        chosen = {**SMALL, "memory": memory, "inputs": inputs, "head": head, "trunk_dims": trunk}
        chosen["code_embedding"] = codes
        built = built_of(parts, chosen)
        encoders = {part: kind for part, (kind, _) in PARTS[parts].items()}
        unused = MultimodalConfig(**chosen).unused(encoders)
        for name, other in OTHER.items():
            same = built_of(parts, {**chosen, name: other}) == built
            assert same == (name in unused), (WAYS[way % len(WAYS)], name, unused)


def test_a_sweep_of_what_needs_batch_norm_or_several_parts_is_told_that_it_means_nothing() -> None:
    both = {"text": "vector", "clip": "vector"}
    adapts = MultimodalConfig(norm="batch").unused(both)
    assert not {"batch_norm", "modality_dropout"} & adapts.keys()
    unused = MultimodalConfig(norm="none").unused({"text": "vector"})
    assert unused["batch_norm"] == "model.norm none"
    assert unused["modality_dropout"] == "data.modalities of one part"
