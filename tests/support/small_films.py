"""Small films whose pictures and sound change all the time."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SOUND_RATE = 24_000
_FPS = 8


def write_films(folder: Path, seconds: Mapping[str, float], ending: str = ".mp4") -> None:
    """Write a film of each name and length (s), 32 x 24, with a tone that changes."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, length) in enumerate(seconds.items()):
        random = np.random.default_rng(seed)
        blocks = random.integers(0, 256, (round(length * _FPS), 6, 8, 3), np.uint8)
        pictures = blocks.repeat(4, 1).repeat(4, 2)
        hz = random.uniform(100, 3000, int(length) + 2).repeat(SOUND_RATE)
        sound = tone(hz[: int(length * SOUND_RATE)])
        write_film(folder / f"{name}{ending}", pictures, _FPS, sound, "aac")


def tone(hz_N: np.ndarray, rate: int = SOUND_RATE) -> np.ndarray:
    """Return samples of a tone of amplitude 0.4 and of these frequencies."""
    return np.asarray(0.4 * np.sin(2 * np.pi * np.cumsum(hz_N) / rate))


def write_film(
    path: Path,
    pictures_NHWC: np.ndarray,
    fps: int,
    sound_N: np.ndarray,
    audio_codec: str,
    rate: int = SOUND_RATE,
) -> Path:
    """Write pictures of bytes and samples in [-1, 1]."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        _, video.height, video.width, _ = pictures_NHWC.shape
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(audio_codec, rate=rate, layout="mono")
        for picture_HWC in pictures_NHWC:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC))
            container.mux(video.encode(image))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(sound_N[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path
