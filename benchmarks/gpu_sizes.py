"""What benchmarks/gpu_check.py trains, on a GPU, and at the smallest size on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_dataset import PARTS, SUBJECT, Arrays, stored_part, write_arrays
from seed import SEED, TINY

from giblet_ray.config import TrainJob

_LATENTS, _DELAY_TRS = 8, 3
"""Numbers that the text is made of, and how many TRs later BOLD follows them."""


@dataclass(frozen=True)
class Size:
    """How large the checks are.

    Attributes
    ----------
    rows, units : int
        TRs of the data set, and units.
    frame : (int, int)
        Height and width of a picture.
    batch_trs : int
        BOLD TRs of an optimizer step.
    epochs : int
        Of trainings that are timed, or set beside others.
    encoder : mapping
        Settings of contract 1's encoder.
    """

    rows: int
    units: int
    frame: tuple[int, int]
    batch_trs: int
    epochs: int
    encoder: Mapping[str, Any]


SIZES = {
    "cuda": Size(4096, 4000, (90, 160), 64, 4, {"head_dim": 2048}),
    "cpu": Size(300, 240, (18, 32), 64, 2, {**TINY, "audio_codebooks": 2}),
}


class Checked:
    """The data set and the jobs of a check.

    Parameters
    ----------
    folder : Path
        Where the data set is made.
    device : torch.device
        What is checked.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device, self.size, self.folder = device, SIZES[device.type], folder
        self._data = str(folder / "data")
        self.arrays = learnable(self.size)
        half = self.size.rows // 2 + 31
        self.films = {"first": slice(0, half), "second": slice(half, self.size.rows)}
        parts = {name: stored_part(name, self.arrays[name]) for name in PARTS}
        bold = {SUBJECT: self.arrays["bold"]}
        write_arrays(self._data, self.films, self.arrays, parts, bold)

    def job(self, model: Mapping[str, Any] | None = None, **train: Any) -> TrainJob:
        """Return a job of a model, by default that of a job without settings."""
        course = {"batch_trs": self.size.batch_trs, "log_every_steps": 1, **train}
        return TrainJob(dataset=self._data, name="checked", model=model or {}, train=course)

    def encoder(self, **settings: Any) -> dict[str, Any]:
        """Return settings of contract 1's encoder, without dropout."""
        return {**SEED, **self.size.encoder, "dropout": 0.0, **settings}

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Settings of the models whose time and memory are told, by name."""
        default: dict[str, dict[str, Any]] = {"the default model": {}}
        return default if self.device.type == "cpu" else {"contract 1": self.encoder(), **default}

    def of_gpu(self, found: float) -> float | None:
        """Return what says something of a GPU alone: None if this is none."""
        return found if self.device.type == "cuda" else None


def learnable(size: Size) -> Arrays:
    """Return random rows of all parts, and BOLD that follows some numbers behind the text."""
    random, rows, units = np.random.default_rng(0), size.rows, size.units

    def white(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    latents = white(rows, _LATENTS)
    return {
        "frames": random.integers(0, 256, (rows, 3, *size.frame), dtype=np.uint8),
        "codes": random.integers(0, 1024, (rows, 8, 112)).astype(np.int16),
        "text": latents @ white(_LATENTS, 1024) + white(rows, 1024),
        "bold": np.roll(latents, _DELAY_TRS, axis=0) @ white(_LATENTS, units) + white(rows, units),
    }
