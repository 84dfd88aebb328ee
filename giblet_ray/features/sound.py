"""Level and spectrum of each TR's sound: a few numbers, as a microphone's meter would show them.

Shapes: T TRs, N samples of a TR, Q frequency bins, B bands.

TR i has the samples from round(i * TR) to round((i + 1) * TR), counted from the film's start each
time, so that nothing drifts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.signal

from giblet_ray.features.audio import Tape
from giblet_ray.features.clock import exact_seconds
from giblet_ray.features.mel import mel_filterbank

_WINDOW = 2048
"""Samples of a spectrum's window; 85 ms at 24 kHz, half of it before the next one begins."""
_FLOOR = 1e-10
"""Power that silence has: -100 dB of full scale."""


def sound_per_tr(
    blocks: Iterable[np.ndarray],
    n_trs: int,
    tr_seconds: float,
    n_bands: int = 16,
    sample_rate: int = 24_000,
) -> np.ndarray:
    """Measure the level and the spectrum of each TR, in decibels of full scale.

    The level is 10 log10(mean_n x_n^2): 0 is a square wave of amplitude 1, -3 a sine of it. A
    band's power is 10 log10(sum_q w_q P_q), with P the power of each bin, the mean over Hann
    windows of 85 ms (Welch 1967; scipy.signal.welch), and w the band's triangle on the mel scale,
    whose weights sum to 1. Nothing is below -100 dB.

    Parameters
    ----------
    blocks : iterable of np.ndarray of float32, shape (samples,)
        The film's sound from its time 0 on, as `audio.read_audio` yields it.
    n_trs : int
        TRs to measure.
    tr_seconds : float
        Duration of a TR (s).
    n_bands : int
        Bands, evenly spaced on the mel scale from 0 Hz to half the sample rate.
    sample_rate : int
        Rate of the samples (Hz).

    Returns
    -------
    sound_TD : np.ndarray of float32, shape (n_trs, 1 + n_bands)
        Level, then bands from low to high.

    Raises
    ------
    InputError
        The sound ends before the last TR.
    """
    bank_BQ = mel_filterbank(n_bands, _WINDOW, sample_rate)
    tr_samples = exact_seconds(tr_seconds) * sample_rate
    sound_TD = np.empty((n_trs, 1 + n_bands), np.float32)
    tape = Tape(blocks)
    for tr in range(n_trs):
        start, stop = round(tr * tr_samples), round((tr + 1) * tr_samples)
        samples_N = tape.read(start, stop, needed=stop).astype(np.float64)
        sound_TD[tr, 0] = _decibels(np.mean(samples_N**2))
        _, power_Q = scipy.signal.welch(
            samples_N,
            nperseg=min(_WINDOW, len(samples_N)),
            nfft=_WINDOW,
            detrend=False,
            scaling="spectrum",
        )
        sound_TD[tr, 1:] = _decibels(bank_BQ @ power_Q)
    return sound_TD


def _decibels(power: Any) -> Any:
    return 10 * np.log10(np.maximum(power, _FLOOR))
