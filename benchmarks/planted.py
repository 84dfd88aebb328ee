"""A signal that is planted in the film's sound, to be found by a search over audio models.

The planted sound is eight tones that come and go, frame by frame of the codec (1/75 s), each heard
by one codebook (planted_codec.py). BOLD follows the order in which two of them
sound, the tones of the last two codebooks that carry the signal (here of four):

    codebook 0  | _____##__________________##__________________##______ |   beats: they say nothing
    codebook 1  | __##__________________##__________________##_________ |
    codebook 2  | __##________________________________________##_______ |   a pair, a single tone of
    codebook 3  | __________##_______________##_______________________##|   either, a pair, ...
    codebook 4  | ##__##_____##__##___##__##______##___##__##_____##__##|   noise, for whoever hears
                    `- scale -'                                             more codebooks

During a scene every pair comes in the same order, and scenes of either order alternate. Each tone
sounds as often, and as long, in both, and all other sounds of the two are further apart than those
of a pair. Without both codebooks, or with a convolution too narrow to reach from one tone to the
other, there is nothing to learn; with more codebooks, noise is learned from the training TRs too; a
wider convolution sees more, none of which helps.

S: tones, T: code frames, R: TRs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from giblet_ray.demo.script import Scene
from giblet_ray.demo.sound import CHANNEL_GAINS, SAMPLE_RATE
from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.codes import FRAME_RATE

# Multiples of 75 Hz: each code frame holds whole periods, so that a tone looks alike in all of
# them. Primes, so that no tone is a harmonic of another.
TONES_HZ = tuple(FRAME_RATE * prime for prime in (5, 7, 11, 17, 29, 43, 61, 89))
N_KINDS = 2
"""Kinds of scenes: the orders of a pair."""

_ANALYSIS_RATE = 24_000
_AMPLITUDE = 0.1
_NOISE_RMS = 0.002
_PAUSE_JITTER_FRAMES = 3
_RAMP_SECONDS = 0.004  # a tone that starts at once clicks, and a click is heard in all codebooks


@dataclass(frozen=True)
class Planted:
    """Where a model finds the signal.

    Attributes
    ----------
    codebooks : int
        Codebooks that a model must hear, the first ones: 2 to 8.
    scale_frames : int
        Code frames (1/75 s) that a convolution must span to see a pair of tones whole: odd, 9 to
        31. One of half as many frames never sees both tones.

    Raises
    ------
    InputError
        For a number that is out of its range.
    """

    codebooks: int = 4
    scale_frames: int = 15

    def __post_init__(self) -> None:
        if not 2 <= self.codebooks <= len(TONES_HZ):
            raise InputError(
                f"planted codebooks: found {self.codebooks}; 2 to {len(TONES_HZ)} are accepted"
            )
        if not (9 <= self.scale_frames <= 31 and self.scale_frames % 2):
            raise InputError(
                f"planted scale_frames: found {self.scale_frames}; an odd number from 9 to 31 is "
                "accepted"
            )

    @property
    def carriers(self) -> tuple[int, int]:
        """The two codebooks (and tones) whose order is the signal, counted from 0."""
        return self.codebooks - 2, self.codebooks - 1

    @property
    def tone_frames(self) -> int:
        """Code frames that a tone lasts; between the two of a pair, about twice as many pass."""
        return self.scale_frames // 4 + 1

    @property
    def longest_period_frames(self) -> int:
        """Code frames from one pair to the next, at most."""
        pause_frames = self.scale_frames + _PAUSE_JITTER_FRAMES
        return self.scale_frames + self.tone_frames + 2 * pause_frames


def draw_gates(
    scenes: Iterable[Scene], n_frames: int, planted: Planted, rng: np.random.Generator
) -> np.ndarray:
    """Say when each tone sounds.

    Parameters
    ----------
    scenes : iterable of Scene
        Of kinds 0 and 1: the order of their pairs.
    n_frames : int
        Code frames of the film.
    planted : Planted
        Which tones make the pairs, and how long a pair lasts.
    rng : numpy.random.Generator
        Where all pauses are drawn from.

    Returns
    -------
    numpy.ndarray, bool, (S, T)
    """
    gates_ST = np.zeros((len(TONES_HZ), n_frames), dtype=bool)
    length, scale = planted.tone_frames, planted.scale_frames
    first, second = planted.carriers

    def draw_pause() -> int:
        return scale + int(rng.integers(_PAUSE_JITTER_FRAMES + 1))

    for scene in scenes:
        pair = (first, second) if scene.kind == 0 else (second, first)
        start = round(scene.start_seconds * FRAME_RATE)
        stop = min(round(scene.end_seconds * FRAME_RATE), n_frames)
        start += int(rng.integers(scale))
        while start + scale <= stop:
            gates_ST[pair[0], start : start + length] = True
            gates_ST[pair[1], start + scale - length : start + scale] = True
            start += scale + draw_pause()
            gates_ST[rng.choice(pair), start : min(start + length, stop)] = True
            start += length + draw_pause()
    for tone in sorted(set(range(len(TONES_HZ))) - {first, second}):
        # Beats of unlike periods below the carriers, noise above them.
        start = int(rng.integers(2 * scale))
        while start < n_frames:
            gates_ST[tone, start : start + length] = True
            is_beat = tone < planted.codebooks
            start += 2 * scale + tone if is_beat else int(rng.integers(length + 1, 5 * length))
    return gates_ST


def draw_sound(
    gates_ST: np.ndarray, n_samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Make the film's sound, a second at a time.

    Parameters
    ----------
    gates_ST : numpy.ndarray, bool, (S, T)
        When each tone sounds.
    n_samples : int
        Samples per channel to make, at ``SAMPLE_RATE``.
    rng : numpy.random.Generator
        Where the tones' phases and the noise are drawn from.

    Yields
    ------
    numpy.ndarray, float32, (channels, samples)
        In [-1, 1]; a second of samples, the last block what is left.
    """
    frame = SAMPLE_RATE // FRAME_RATE
    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    phases_S1 = rng.uniform(0, 2 * np.pi, size=(len(TONES_HZ), 1))
    tones_SN = np.sin(2 * np.pi * np.multiply.outer(TONES_HZ, seconds) + phases_S1)
    ramp = np.hanning(round(_RAMP_SECONDS * SAMPLE_RATE))
    ramp /= ramp.sum()
    before_SN = np.zeros((len(TONES_HZ), len(ramp) - 1))
    for first_sample in range(0, n_samples, SAMPLE_RATE):
        length = min(SAMPLE_RATE, n_samples - first_sample)
        first_frame = first_sample // frame
        gates_SN = gates_ST[:, first_frame : first_frame + FRAME_RATE].repeat(frame, axis=1)
        # A film may end within a frame.
        gates_SN = np.pad(gates_SN, ((0, 0), (0, SAMPLE_RATE)))[:, :length].astype(np.float64)
        held_SN = np.concatenate([before_SN, gates_SN], axis=1)
        before_SN = held_SN[:, len(held_SN[0]) - len(ramp) + 1 :]
        envelopes_SN = np.stack([np.convolve(held_N, ramp, "valid") for held_N in held_SN])
        block_N = _AMPLITUDE * (envelopes_SN * tones_SN[:, :length]).sum(axis=0)
        block_N += _NOISE_RMS * rng.standard_normal(length)
        yield np.clip(CHANNEL_GAINS * block_N, -1.0, 1.0).astype(np.float32)


def measure_tones(film_path: Path, n_frames: int) -> np.ndarray:
    """Measure from the film itself how loud each tone is in each code frame.

    Parameters
    ----------
    film_path : pathlib.Path
        A film with planted sound.
    n_frames : int
        Code frames to measure, from the film's start.

    Returns
    -------
    numpy.ndarray, float64, (S, T)
        Amplitudes, 1 where a tone is fully there.
    """
    seconds = n_frames / FRAME_RATE
    samples_N = np.concatenate(
        list(read_audio(film_path, _ANALYSIS_RATE, duration_seconds=seconds))
    )
    hop = _ANALYSIS_RATE // FRAME_RATE
    # A frame's spectrum has a line every 75 Hz, and so one at each tone.
    spectrum_TF = np.abs(np.fft.rfft(samples_N[: n_frames * hop].reshape(n_frames, hop), axis=1))
    lines_S = np.array(TONES_HZ) // FRAME_RATE
    amplitude_ST = spectrum_TF[:, lines_S].T * 2 / hop
    return amplitude_ST / (_AMPLITUDE * CHANNEL_GAINS.mean())


def order_of_tones(
    tones_ST: np.ndarray, planted: Planted, n_trs: int, tr_seconds: float
) -> np.ndarray:
    """Compute the feature that BOLD follows: which tone of the pair comes first.

    With a, b the loudness of the two tones, n their length and w the scale (frames)

        pair(a, b)[t] = mean(a[t : t + n]) + mean(b[t + w - n : t + w])
        order[r] = max over t in TR r of pair(a, b) - max over t in TR r of pair(b, a)

    which is what convolutions of width w, and maxima over the TR, can compute.

    Parameters
    ----------
    tones_ST : numpy.ndarray, (S, T)
        Loudness of each tone.
    planted : Planted
        Which tones, and on what scale.
    n_trs : int
        TRs to compute.
    tr_seconds : float
        Length of a TR.

    Returns
    -------
    numpy.ndarray, float64, (R,)
    """
    first, second = planted.carriers
    n, w = planted.tone_frames, planted.scale_frames
    short_ST = np.lib.stride_tricks.sliding_window_view(tones_ST, n, axis=1).mean(axis=-1)
    a_T, b_T = short_ST[first], short_ST[second]
    forward_T = a_T[: len(a_T) - (w - n)] + b_T[w - n :]
    backward_T = b_T[: len(b_T) - (w - n)] + a_T[w - n :]
    bounds = np.rint(np.arange(n_trs + 1) * tr_seconds * FRAME_RATE).astype(int)
    # A pair belongs to the TR that it lies in whole.
    spans = [slice(start, stop - w + 1) for start, stop in pairwise(bounds)]
    return np.array([forward_T[span].max() - backward_T[span].max() for span in spans])
