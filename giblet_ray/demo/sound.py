"""The demo film's sound: chords of differing loudness and pitch, with a little noise.

Each kind of sound is a loop of one second, repeated while its scene lasts, under a slow tremolo.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from giblet_ray.demo.script import Scene, balanced_pairs

SAMPLE_RATE = 44_100
CHANNELS = 2
CHANNEL_GAINS = np.array([[1.0], [0.8]])

LEVELS_DBFS = (-42.0, -32.0, -22.0, -12.0)
FUNDAMENTALS_HZ = (110, 320, 900, 2400)
KINDS = balanced_pairs()

_HIGHEST_PARTIAL_HZ = 9_000
_NOISE_DB = -26.0  # beside the chord
_TREMOLO_DB, _TREMOLO_SECONDS = 1.5, 5.0


def draw_sound(
    scenes: list[Scene], n_samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Make the film's sound, a second at a time.

    Parameters
    ----------
    scenes : list of Scene
        Whose kinds index ``KINDS``: pairs (level, fundamental).
    n_samples : int
        Samples per channel to make, at ``SAMPLE_RATE``.
    rng : numpy.random.Generator
        Where the partials' phases and the noise are drawn from.

    Yields
    ------
    numpy.ndarray, float32, (CHANNELS, samples)
        In [-1, 1]; a second of samples, the last block what is left.
    """
    chords = [_chord_loop(fundamental, rng) for fundamental in FUNDAMENTALS_HZ]
    ends = np.rint([scene.end_seconds * SAMPLE_RATE for scene in scenes])
    kinds = np.array([scene.kind for scene in scenes])
    for first_sample in range(0, n_samples, SAMPLE_RATE):
        sample = np.arange(first_sample, min(first_sample + SAMPLE_RATE, n_samples))
        kind = kinds[np.minimum(np.searchsorted(ends, sample, side="right"), len(kinds) - 1)]
        block = np.zeros(len(sample))
        for heard in np.unique(kind):
            level_index, chord_index = KINDS[heard]
            now = kind == heard
            gain = 10 ** (LEVELS_DBFS[level_index] / 20)
            # A block starts on a whole second, where the loop does.
            block[now] = gain * chords[chord_index][: len(sample)][now]
            block[now] += gain * 10 ** (_NOISE_DB / 20) * rng.standard_normal(now.sum())
        phase = 2 * np.pi * sample / (_TREMOLO_SECONDS * SAMPLE_RATE)
        block *= 10 ** (_TREMOLO_DB * np.sin(phase) / 20)
        yield np.clip(CHANNEL_GAINS * block, -1.0, 1.0).astype(np.float32)


def _chord_loop(fundamental_hz: int, rng: np.random.Generator) -> np.ndarray:
    """One second of a fifth with harmonics, (SAMPLE_RATE,), of root mean square 1.

    Frequencies are whole numbers of Hz, so that the loop has no seam.
    """
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    loop = np.zeros(SAMPLE_RATE)
    for note_hz in (fundamental_hz, fundamental_hz * 3 // 2):
        for harmonic in range(1, 9):
            if note_hz * harmonic <= _HIGHEST_PARTIAL_HZ:
                phase = rng.uniform(0, 2 * np.pi)
                loop += np.sin(2 * np.pi * note_hz * harmonic * seconds + phase) / harmonic
    return loop / np.sqrt(np.mean(loop**2))
