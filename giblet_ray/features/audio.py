"""A film's sound: decoded, mixed to mono, resampled, and laid on the film's clock.

Sample n of what is read sounds at n / sample_rate seconds after the film's first picture, or, of
sound without pictures, after its start:

    video        |first picture
    audio        |        [========   hole   ==========]
    samples      0000000000========0000000000==========
                 ^ sample 0        ^ a hole in the timestamps is silence, not a shift
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.media import (
    END_TOLERANCE_SECONDS,
    audio_stream,
    open_media,
    origin_seconds,
)

_RESAMPLER_OPTIONS = {
    # Normalised down-mixing: the same sound in all channels keeps its level, and integer and
    # float sources come out alike (by default only integer ones are normalised).
    "rematrix_maxval": "1.0",
    # Follow the timestamps by inserting silence or dropping samples (never by stretching) where
    # they differ from the sample count by 0.1 s, and start at time 0.
    "async": "1",
    "first_pts": "0",
}
_PADDING_SECONDS = 0.15
"""Of an encoder, which packets count and decoders leave out: most in MP3, 1,152 + 529 samples
before and up to 1,152 after (0.13 s at 22.05 kHz; https://lame.sourceforge.io/tech-FAQ.txt)."""


def read_audio(
    path: str | Path,
    sample_rate: int = 24_000,
    block_seconds: float = 10.0,
    duration_seconds: float | Fraction | None = None,
    start_seconds: float = 0.0,
) -> Iterator[np.ndarray]:
    """Read a film's sound, of any rate, channel count and format, block by block.

    Of several tracks, that which `media.audio_stream` chooses.

    Parameters
    ----------
    path : str or Path
        Any film or sound file that FFmpeg reads.
    sample_rate : int
        Rate of the result (Hz).
    block_seconds : float
        Length of a block (s); the last one may be shorter. Memory depends on it alone.
    duration_seconds : float or Fraction, optional
        Length to deliver (s), counted from `start_seconds`: later sound is left out, and up to
        `media.END_TOLERANCE_SECONDS` that lack at the end are silence, and what an encoder
        pads. By default, all there is.
    start_seconds : float
        Sound before this (s), counted from the film's start, is left out.

    Yields
    ------
    samples_N : np.ndarray of float32, shape (samples,), full scale at -1 and 1

    Raises
    ------
    InputError
        The film cannot be opened, has no audio, is damaged, holds samples that are not finite, or
        ends before ``duration_seconds``.
    """
    wanted = (
        None if duration_seconds is None else round(exact_seconds(duration_seconds) * sample_rate)
    )
    n_samples, n_skipped = 0, round(exact_seconds(start_seconds) * sample_rate)
    for block_N in _decoded_blocks(path, sample_rate, round(block_seconds * sample_rate)):
        if not np.isfinite(block_N).all():
            raise InputError(
                f"{path}: its audio holds samples that are not finite after "
                f"{n_samples / sample_rate:.1f} s; the file is damaged"
            )
        samples_N = block_N[n_skipped:][: None if wanted is None else wanted - n_samples]
        n_skipped = max(0, n_skipped - len(block_N))
        n_samples += len(samples_N)
        yield samples_N
        if n_samples == wanted:
            return
    if wanted is None:
        return
    if wanted - n_samples > (END_TOLERANCE_SECONDS + _PADDING_SECONDS) * sample_rate:
        raise InputError(
            f"{path}: its audio ends at {start_seconds + n_samples / sample_rate:.2f} s, "
            f"{start_seconds + wanted / sample_rate:.2f} s are expected; the file is truncated or "
            "damaged"
        )
    yield np.zeros(wanted - n_samples, np.float32)


class Tape:
    """Blocks of sound as one long array that is read forwards and forgotten behind the reader.

    Attributes
    ----------
    start : int
        First sample that can still be read.
    """

    def __init__(self, blocks: Iterable[np.ndarray], silence_before: int = 0) -> None:
        self._blocks = iter(blocks)
        self._held_N = np.zeros(silence_before, np.float32)
        self.start = -silence_before
        self._ended = False

    def read(self, start: int, stop: int, needed: int) -> np.ndarray:
        """Samples [start, stop); silence after the end, which must not come before ``needed``."""
        if start < self.start:
            raise ValueError(f"sample {start} is forgotten; those from {self.start} on are there")
        while len(self._held_N) < stop - self.start and not self._ended:
            block_N = next(self._blocks, None)
            self._ended = block_N is None
            if block_N is not None:
                self._held_N = np.concatenate([self._held_N, block_N])
                self._forget(start)
        end = self.start + len(self._held_N)
        if end < min(needed, stop):
            raise InputError(f"the audio has {end} samples; at least {needed} are needed here")
        self._forget(start)
        return np.pad(self._held_N[: stop - start], (0, max(0, stop - end)))

    def _forget(self, start: int) -> None:
        n = min(start - self.start, len(self._held_N))
        self._held_N, self.start = self._held_N[n:], self.start + n


def _decoded_blocks(path: str | Path, sample_rate: int, block_samples: int) -> Iterator[np.ndarray]:
    with open_media(path) as container:
        stream = audio_stream(container, path)
        origin = origin_seconds(container, path)
        resampler = av.AudioResampler(
            format="flt",
            layout="mono",
            rate=sample_rate,
            frame_size=block_samples,
            options=_RESAMPLER_OPTIONS,
        )
        seconds = 0.0
        try:
            for frame in container.decode(stream):
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts -= round(origin / frame.time_base)
                    seconds = float(frame.pts * frame.time_base)
                for block in resampler.resample(frame):
                    yield block.to_ndarray()[0]
            for block in resampler.resample(None):
                yield block.to_ndarray()[0]
        except (av.FFmpegError, ValueError) as error:
            # ValueError: the rate or the channels change within the stream.
            raise InputError(
                f"{path}: its audio cannot be decoded after {seconds:.2f} s ({error}); "
                "the file is damaged, or changes its audio format midway"
            ) from error
