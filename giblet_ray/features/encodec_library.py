"""Bringing in the `encodec` library, which asks for more than it is used for here."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from giblet_ray.features.torchaudio_aside import import_aside_torchaudio


def import_encodec() -> ModuleType:
    """Import `encodec`, whose helpers that read and resample files by torchaudio are not used."""
    return import_aside_torchaudio("encodec")


def build_model(pretrained: bool, repository: Path | None = None) -> Any:
    """EncodecModel for 24 kHz: trained weights, downloaded or from a folder, or random ones."""
    encodec = import_encodec()
    with warnings.catch_warnings():
        # encodec 0.1.1 uses torch's older weight_norm, which works and cannot be changed here.
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        return encodec.EncodecModel.encodec_model_24khz(pretrained, repository)
