"""Small films whose brightness changes from TR to TR, and BOLD that answers to it.

N is the number of pictures, T of TRs, V of units; pictures are (N, height, width, colour).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_films import tone, write_film

RATE = 8_000
_AT_A_TIME = 2_000


def shaded(shades_T: np.ndarray, tr_seconds: float, fps: int, seed: int) -> np.ndarray:
    """Return pictures of blocks that change, around each TR's shade: (N, 24, 32, 3) bytes."""
    n = round(len(shades_T) * tr_seconds * fps)
    blocks = np.random.default_rng(seed).integers(-40, 41, (n, 6, 8, 1))
    tr_N = np.minimum((np.arange(n) / fps / tr_seconds).astype(int), len(shades_T) - 1)
    small = np.clip(blocks + shades_T[tr_N, None, None, None], 0, 255).astype(np.uint8)
    return small.repeat(4, 1).repeat(4, 2).repeat(3, 3)


def sung(seconds: float, seed: int) -> np.ndarray:
    """Return samples of a tone that is another each second, louder or softer."""
    random = np.random.default_rng(seed)
    n = int(seconds * RATE)
    hz, level = (
        random.uniform(100, 3000, int(seconds) + 2),
        random.uniform(0.05, 1, int(seconds) + 2),
    )
    return tone(hz.repeat(RATE)[:n], RATE) * level.repeat(RATE)[:n]


def write_shaded(path: Path, pictures_NHWC: np.ndarray, sound_N: np.ndarray, fps: int) -> Path:
    """Write a film of pictures and sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_film(path, pictures_NHWC, fps, sound_N, "aac", RATE)


def answer(shades_T: np.ndarray, tr_seconds: float, n_units: int, seed: int) -> np.ndarray:
    """Return BOLD that answers to the shades by the canonical response: (T, V), a mean of 100.

    Volume t is measured at (t + 1/2) TRs of the film; noise has half of the answer's SD.
    """
    from nilearn.glm.first_level import spm_hrf

    random = np.random.default_rng(seed)
    fine = 16
    shown = np.repeat((shades_T - shades_T.mean()) / shades_T.std(), fine)
    response = np.convolve(shown, spm_hrf(tr_seconds, oversampling=fine))[: len(shown)]
    response_T = response[fine // 2 :: fine]
    signal_TV = np.outer(response_T / response_T.std(), random.uniform(0.5, 1.5, n_units))
    return 100 + signal_TV + random.normal(0, 0.5, signal_TV.shape)
