"""What a film shows and sounds like in a few numbers, by which equal intervals of films are found.

::

    film a      0 s ...........[ 886 ======= 902 ]
    film b               [ 0 ======= 16 ] ...................      the same 16 s

Four times a second a film has a picture, 9 x 16 shades, and the spectrum of a second of sound, 24
bands; each less its mean, and of length 1. Where two films show the same, both are alike again and
again at one distance in time, while they change: a picture that stands still tells nothing.

Shapes: M moments, D numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from giblet_ray.features.audio import Tape, read_audio
from giblet_ray.features.mel import mel_filterbank
from giblet_ray.features.video import frames_on_screen

RATE = 4
"""Moments per second."""
LEAST_SECONDS = 8.0
"""Shortest interval that is found: a jingle of a second or two is no leak worth a gap."""

_ROWS, _COLUMNS, _BANDS = 9, 16, 24
_SOUND_RATE = 8_000
_SPECTRUM = 8_192
"""Samples of a spectrum's window: a second, so that half a moment's shift changes little."""
_ALIKE = 0.9
"""Least product of two fingerprints of the same: a picture a quarter of a second on may differ."""
_SHARE = 0.8
"""Share of an interval's moments that are alike."""
_HOLE = 4
"""Moments that may differ one after the other."""
_PLAIN = {"picture": 2.0, "sound": 1.0}
"""Least spread of a pattern: shades of 255, and decibels; below, it is darkness or silence."""
_CHANGE = 0.02
"""Least mean change from a moment to the next, 1 - product, in what is compared."""
_STIR = 0.25
"""Share of that change around a moment, from which on it is looked for: a fixation cross that
stands still is like itself at every distance, and tells none."""
_EVERY = 6
"""Moments between those of one film that are looked for in all of the others."""
_CHUNK = 4096


@dataclass(frozen=True)
class Fingerprint:
    """A film's pattern at each moment, (M, D) float32 of length 1; 0 where there is none."""

    picture_MD: np.ndarray
    sound_MD: np.ndarray


class Equal(NamedTuple):
    """An interval of one film, and one of another (or later in the same) that shows the same."""

    one: str
    start: float
    other: str
    other_start: float
    seconds: float


def fingerprint(path: str, seconds: float, is_seen: bool, is_heard: bool) -> Fingerprint:
    """Read a film's patterns.

    Parameters
    ----------
    path : str
        The film.
    seconds : float
        Its length (s).
    is_seen, is_heard : bool
        Whether it has pictures, and sound.

    Raises
    ------
    InputError
        If it cannot be decoded.
    """
    n = int(seconds * RATE)
    pictures_MD = np.zeros((n, _ROWS * _COLUMNS), np.float32)
    if is_seen:
        shown = frames_on_screen(path, n, 1 / RATE, Fraction(1, RATE), _ROWS, _COLUMNS)
        for moment, picture_CHW in enumerate(shown):
            pictures_MD[moment] = picture_CHW.mean(0).ravel()
    sound_MD = np.zeros((n, _BANDS), np.float32)
    if is_heard:
        sound_MD = _sound(path, n)
    return Fingerprint(_patterns(pictures_MD, "picture"), _patterns(sound_MD, "sound"))


def _sound(path: str, n: int) -> np.ndarray:
    """Return decibels of bands around each moment, (n, D)."""
    bank_BQ = mel_filterbank(_BANDS, _SPECTRUM, _SOUND_RATE)
    tape, window = Tape(read_audio(path, _SOUND_RATE), _SPECTRUM), np.hanning(_SPECTRUM)
    found_MD = np.empty((n, _BANDS))
    for moment in range(n):
        start = (2 * moment + 1) * _SOUND_RATE // (2 * RATE) - _SPECTRUM // 2
        samples_N = tape.read(start, start + _SPECTRUM, needed=0) * window
        power_Q = np.abs(np.fft.rfft(samples_N)) ** 2
        found_MD[moment] = 10 * np.log10(np.maximum(bank_BQ @ power_Q, 1e-4))
    return found_MD


def _patterns(values_MD: np.ndarray, what: str) -> np.ndarray:
    centred_MD = values_MD - values_MD.mean(1, keepdims=True)
    length_M1 = np.linalg.norm(centred_MD, axis=1, keepdims=True)
    spread_M1 = length_M1 / np.sqrt(values_MD.shape[1])
    told = spread_M1 > _PLAIN[what]
    return np.where(told, centred_MD / np.maximum(length_M1, 1e-9), 0).astype(np.float32)


def equal_to(one: str, films: Mapping[str, Fingerprint]) -> list[Equal]:
    """Find the intervals of :data:`LEAST_SECONDS` or more that show, or sound, the same, of a film
    and itself, and of it and each that comes after it: those of each pair in time's order."""
    found: list[Equal] = []
    names = list(films)
    for other in names[names.index(one) :]:
        of_pair = []
        for name in ("picture_MD", "sound_MD"):
            patterns = getattr(films[one], name), getattr(films[other], name)
            of_pair += list(_equal(*patterns, within=one == other))
        for start, lag, n in _joined(of_pair):
            found.append(Equal(one, start / RATE, other, (start + lag) / RATE, n / RATE))
    return found


def _equal(
    one_MD: np.ndarray, other_MD: np.ndarray, within: bool
) -> Iterator[tuple[int, int, int]]:
    """Yield where two films are alike: first moment of one, lag of the other, moments."""
    least = int(LEAST_SECONDS * RATE)
    for lag in _lags(one_MD, other_MD, within):
        start = max(0, -lag)
        stop = min(len(one_MD), len(other_MD) - lag)
        here_MD, there_MD = one_MD[start:stop], other_MD[start + lag : stop + lag]
        alike_M = np.einsum("md,md->m", here_MD, there_MD) >= _ALIKE
        for first, last in _stretches(alike_M):
            moved = 1 - np.einsum("md,md->m", here_MD[first : last - 1], here_MD[first + 1 : last])
            if last - first >= least and moved.mean() >= _CHANGE:
                yield start + first, lag, last - first


def _lags(one_MD: np.ndarray, other_MD: np.ndarray, within: bool) -> list[int]:
    """Return distances in time at which moments of two films are alike again and again.

    Speech sounds like speech now and then at any distance: what counts is several moments of the
    time that an interval lasts at least.
    """
    least = int(LEAST_SECONDS * RATE)
    needed = int(_SHARE * least // _EVERY)
    some = np.flatnonzero(_is_stirring(one_MD)[::_EVERY]) * _EVERY
    there = np.flatnonzero(_is_stirring(other_MD))
    there_MD = other_MD[there]
    alike = [np.zeros((2, 0), np.int64)]
    for chunk in np.array_split(some, max(1, len(some) // _CHUNK)):
        rows, columns = np.nonzero(one_MD[chunk] @ there_MD.T >= _ALIKE)
        alike.append(np.stack([there[columns] - chunk[rows], chunk[rows]]))
    lags, moments = np.concatenate(alike, axis=1)
    order = np.lexsort((moments, lags))
    lags, moments = lags[order], moments[order]
    first, last = slice(None, len(lags) - needed + 1), slice(needed - 1, None)
    near = (lags[first] == lags[last]) & (moments[last] - moments[first] < least)
    found: list[int] = np.unique(lags[first][near]).tolist()
    return [lag for lag in found if not within or lag >= least]


def _is_stirring(patterns_MD: np.ndarray) -> np.ndarray:
    """Tell moments around which, as far as an interval lasts at least, a film changes, (M,)."""
    least, n = int(LEAST_SECONDS * RATE), len(patterns_MD)
    # What there was before darkness or silence is what comes after it: that is no change.
    last_M = np.maximum.accumulate(np.where(patterns_MD.any(axis=1), np.arange(n), 0))
    shown_MD = patterns_MD[last_M]
    moved = 1 - np.einsum("md,md->m", shown_MD[:-1], shown_MD[1:])
    until = np.concatenate([[0], np.cumsum(moved, dtype=np.float64)])
    moments = np.arange(n)
    first, last = np.maximum(moments - least, 0), np.minimum(moments + least, n - 1)
    stirring_M: np.ndarray = until[last] - until[first] >= _STIR * _CHANGE * least
    return stirring_M


def _stretches(alike_M: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield stretches of moments that are alike but for short holes."""
    places = np.flatnonzero(alike_M)
    if not len(places):
        return
    cuts = np.flatnonzero(np.diff(places) > _HOLE + 1) + 1
    for group in np.split(places, cuts):
        first, last = int(group[0]), int(group[-1]) + 1
        if len(group) >= _SHARE * (last - first):
            yield first, last


def _joined(found: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join what pictures and sound, and neighbouring lags, say of one interval: the longest."""
    kept: list[tuple[int, int, int]] = []
    for start, lag, n in sorted(found, key=lambda each: -each[2]):
        overlaps = (
            abs(lag - other) <= RATE and start < first + length and first < start + n
            for first, other, length in kept
        )
        if not any(overlaps):
            kept.append((start, lag, n))
    return sorted(kept)
