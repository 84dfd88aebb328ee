"""Small films whose pictures and sound change all the time."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_FPS, _RATE = 8, 24_000


def write_films(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write a film of each name and length (s), 32 x 24, with a tone that changes."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, length) in enumerate(seconds.items()):
        random = np.random.default_rng(seed)
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            video = container.add_stream("mpeg4", rate=_FPS)
            video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
            audio = container.add_stream("aac", rate=_RATE, layout="mono")
            for _ in range(round(length * _FPS)):
                blocks = random.integers(0, 256, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
                container.mux(video.encode(av.VideoFrame.from_ndarray(blocks)))
            container.mux(video.encode())
            hz = random.uniform(100, 3000, int(length) + 2).repeat(_RATE)[: int(length * _RATE)]
            sound = 0.4 * np.sin(2 * np.pi * np.cumsum(hz) / _RATE)
            frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = _RATE, 0, Fraction(1, _RATE)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
