"""Measure a film's features, one value per TR, from the film and subtitle files themselves.

T: TRs, F: features.

TR t covers [t, t + 1) * tr_seconds of film, in frames, samples and words alike:

    TR          |      0      |      1      |  ...
    frames      | | | | | | | | | | | | | | |       by their timestamps
    samples     ............................        by their timestamps
    subtitles      [ a few words ]   [ more ]       words spread evenly over their cue
"""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pysubs2

from giblet_ray.demo.words import TOPICS

FEATURES = (
    "luminance",
    "motion",
    "sound_level",
    "pitch",
    "words",
    *(f"words_{topic.name}" for topic in TOPICS),
)
MODALITIES = {"video": FEATURES[:2], "audio": FEATURES[2:4], "text": FEATURES[4:]}

_STEP = 2  # pixels: every second row and column tells luminance and motion well enough
_ANALYSIS_RATE = 24_000
_QUIETEST_DBFS = -80.0


def measure_features(
    film_path: Path, subtitles_path: Path, n_trs: int, tr_seconds: float
) -> np.ndarray:
    """Measure every feature of ``FEATURES``.

    - luminance: mean luma, in [0, 1]
    - motion: mean absolute change of luma from frame to frame; the median over the TR's frames, so
      that a cut does not count as motion
    - sound_level: root mean square of the mono mix, in dB of full scale
    - pitch: spectral centroid (mean frequency, weighted by power), in octaves above 1 Hz
    - words and words_<topic>: words per second, all and those of one topic

    Parameters
    ----------
    film_path, subtitles_path : pathlib.Path
        Any film and subtitles.
    n_trs : int
        TRs to measure, from the film's start.
    tr_seconds : float
        Length of a TR.

    Returns
    -------
    numpy.ndarray, float64, (T, F)
        In the order of ``FEATURES``.
    """
    columns = [
        *_measure_video(film_path, n_trs, tr_seconds),
        *_measure_audio(film_path, n_trs, tr_seconds),
        *_measure_words(subtitles_path, n_trs, tr_seconds),
    ]
    return np.stack(columns, axis=1)


def _measure_video(path: Path, n_trs: int, tr_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    luminance: list[list[float]] = [[] for _ in range(n_trs)]
    motion: list[list[float]] = [[] for _ in range(n_trs)]
    before_HW: np.ndarray | None = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            luma_HW = frame.to_ndarray(format="gray")[::_STEP, ::_STEP].astype(np.int16)
            tr = int(frame.time / tr_seconds + 1e-6)
            if tr < n_trs:
                luminance[tr].append(float(luma_HW.mean()) / 255)
                if before_HW is not None:
                    motion[tr].append(float(np.abs(luma_HW - before_HW).mean()) / 255)
            before_HW = luma_HW
    return (
        np.array([np.mean(values) for values in luminance]),
        np.array([np.median(values) for values in motion]),
    )


def _measure_audio(path: Path, n_trs: int, tr_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Level and pitch of each TR; holds one TR of samples at a time."""
    bounds = np.rint(np.arange(n_trs + 1) * tr_seconds * _ANALYSIS_RATE).astype(int)
    level, pitch = np.zeros(n_trs), np.zeros(n_trs)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=_ANALYSIS_RATE)
    held = np.zeros(0, dtype=np.float32)
    tr = 0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces = [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            held = np.concatenate([held, *pieces])
            while tr < n_trs and len(held) >= (length := bounds[tr + 1] - bounds[tr]):
                level[tr], pitch[tr] = _level_and_pitch(held[:length])
                held, tr = held[length:], tr + 1
    if tr < n_trs:  # the resampler keeps the last few samples to itself
        level[tr], pitch[tr] = _level_and_pitch(held)
    return level, pitch


def _level_and_pitch(samples: np.ndarray) -> tuple[float, float]:
    """Level in dB of full scale and spectral centroid in octaves above 1 Hz."""
    mean_square = max(float(np.mean(np.square(samples))), 10 ** (_QUIETEST_DBFS / 10))
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / _ANALYSIS_RATE)
    centroid_hz = float(power @ frequency_hz) / max(float(power.sum()), np.finfo(float).tiny)
    return 10 * np.log10(mean_square), np.log2(max(centroid_hz, 1.0))


def _measure_words(path: Path, n_trs: int, tr_seconds: float) -> list[np.ndarray]:
    """Words per second: all of them, then those of each topic."""
    starts = np.arange(n_trs) * tr_seconds
    rates = [np.zeros(n_trs) for _ in range(1 + len(TOPICS))]
    for event in pysubs2.load(str(path), encoding="utf-8"):
        spoken = re.findall(r"\w+", event.plaintext.lower())
        counts = [len(spoken)] + [len([w for w in spoken if w in t.vocabulary]) for t in TOPICS]
        start, end = event.start / 1000, event.end / 1000
        overlap = np.clip(np.minimum(starts + tr_seconds, end) - np.maximum(starts, start), 0, None)
        for rate, count in zip(rates, counts, strict=True):
            rate += count * overlap / ((end - start) * tr_seconds)
    return rates
