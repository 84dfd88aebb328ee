"""Real films, made small: the fixtures write them with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

MakeFilm = Callable[..., Path]


def write_film(
    path: Path,
    picture_seconds: Sequence[float],
    end_seconds: float,
    fps: float = 25,
    sound: np.ndarray | None = None,
    sound_rate: int = 24_000,
    layout: str = "mono",
    video_codec: str = "mpeg4",
    audio_codec: str = "pcm_s16le",
    sound_starts_seconds: float = 0.0,
    container_options: dict[str, str] | None = None,
    dispositions: Sequence[Disposition] = (),
) -> Path:
    """Write a film whose i-th picture, of grey level 8 * (i % 30), appears at picture_seconds[i].

    ``sound`` is (samples,), the same in each channel, or (channels, samples), in [-1, 1]. With
    ``dispositions`` it is the channels of so many mono tracks.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = container.add_stream(video_codec, rate=round(fps))
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.qmax = 2
        # AVI and MPEG-2 have one picture per tick of their clocks.
        has_ticks = path.suffix == ".avi" or video_codec.startswith("mpeg2")
        tick = Fraction(1, round(fps) if has_ticks else 1000)
        video.codec_context.time_base = tick
        tracks = []
        for disposition in dispositions or ([None] if sound is not None else []):
            tracks.append(container.add_stream(audio_codec, rate=sound_rate, layout=layout))
            if disposition is not None:
                tracks[-1].disposition = disposition
        ends = [*picture_seconds[1:], end_seconds]
        for i, (start, end) in enumerate(zip(picture_seconds, ends, strict=True)):
            image = np.full((48, 64, 3), 8 * (i % 30), np.uint8)
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = round(start / tick), tick
            frame.duration = round((end - start) / tick)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number, audio in enumerate(tracks):
            n_channels = av.AudioLayout(layout).nb_channels
            heard = sound[number] if dispositions else sound
            channels = np.broadcast_to(np.atleast_2d(heard), (n_channels, np.shape(heard)[-1]))
            offset = round(sound_starts_seconds * sound_rate)
            for start in range(0, channels.shape[1], 1024):
                block = np.ascontiguousarray(channels[:, start : start + 1024], np.float32)
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate = sound_rate
                frame.pts, frame.time_base = offset + start, Fraction(1, sound_rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


@pytest.fixture
def make_film(tmp_path: Path) -> MakeFilm:
    """Write a film into the test's folder: make_film(name, seconds, fps=10, **write_film's)."""

    def make(name: str, seconds: float, fps: float = 10, **settings: object) -> Path:
        settings.setdefault("picture_seconds", np.arange(round(seconds * fps)) / fps)
        return write_film(tmp_path / name, end_seconds=seconds, fps=fps, **settings)

    return make


@pytest.fixture
def burst() -> Callable[..., np.ndarray]:
    """Silence with half a second of a 440 Hz tone of amplitude 0.5 at second 3."""

    def make(seconds: float, rate: int, starts_seconds: float = 0.0) -> np.ndarray:
        time = starts_seconds + np.arange(round((seconds - starts_seconds) * rate)) / rate
        on = (time >= 3) & (time < 3.5)
        return np.where(on, 0.5 * np.sin(2 * np.pi * 440 * time), 0.0)

    return make
