"""Bringing in the `encodec` library, which asks for more than it is used for here."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from giblet_ray.features.torchaudio_aside import import_aside_torchaudio


def import_encodec() -> ModuleType:
    """Import `encodec`, whose helpers that read and resample files by torchaudio are not used."""
    encodec = import_aside_torchaudio("encodec")
    _pad_at_once(encodec.modules.conv)
    return encodec


def _pad_at_once(conv: Any) -> None:
    """Let encodec pad by one copy of what is padded: torch's reflection, which encodec asks for at
    each convolution, also for a padding of 0, takes a tenth of an encoding's time."""
    if not isinstance(conv.pad1d, partial):
        conv.pad1d = partial(_pad, conv.pad1d)


def _pad(
    pad1d: Any, values: Any, paddings: tuple[int, int], mode: str = "zero", value: float = 0.0
) -> Any:
    """Pad as `pad1d` does, the last axis of a tensor."""
    left, right = paddings
    if left == right == 0:
        return values
    if mode == "reflect" and right == 0 and left < values.shape[-1]:
        return torch.cat([values[..., 1 : left + 1].flip(-1), values], dim=-1)
    return pad1d(values, paddings, mode, value)


def build_model(pretrained: bool, repository: Path | None = None) -> Any:
    """EncodecModel for 24 kHz: trained weights, downloaded or from a folder, or random ones."""
    encodec = import_encodec()
    with warnings.catch_warnings():
        # encodec 0.1.1 uses torch's older weight_norm, which works and cannot be changed here.
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        return encodec.EncodecModel.encodec_model_24khz(pretrained, repository)
