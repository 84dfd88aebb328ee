"""Noise that is smooth in time and space, as BOLD is."""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from giblet_ray.spaces.cleaning import drift_cosines

TR_SECONDS = 1.5
LEAST_TRS = 14  # 20 s
HIGH_PASS_SECONDS = 128.0
Floats = NDArray[np.float64]


def smooth(
    random: np.random.Generator, n_trs: int, n_units: int, seconds: float, width: float = 6.0
) -> Floats:
    """Return noise of unit variance that lasts for so long, and is smooth over a ring of units.

    Autocorrelation exp(-t / seconds) in time, a Gaussian of SD `width` units in space (0: units
    are independent).
    """
    lead = int(8 * seconds / TR_SECONDS)
    noise = random.normal(size=(n_trs + lead, n_units))
    if width:
        apart = np.minimum(np.arange(n_units), np.arange(n_units, 0, -1))
        kernel = np.exp(-0.5 * (apart / width) ** 2)
        kernel /= np.sqrt(np.sum(kernel**2))
        noise = np.fft.irfft(np.fft.rfft(noise, axis=1) * np.fft.rfft(kernel), n=n_units, axis=1)
    a = np.exp(-TR_SECONDS / seconds)
    return scipy.signal.lfilter([np.sqrt(1 - a * a)], [1, -a], noise, axis=0)[lead:]


def high_passed(rows_TV: Floats) -> Floats:
    """Return rows without cosines of periods of 128 s or more, as precompute does with scans."""
    slow_TC = _slow_basis(len(rows_TV))
    return rows_TV - slow_TC @ (slow_TC.T @ rows_TV)


@cache
def _slow_basis(n_trs: int) -> Floats:
    return drift_cosines(n_trs, TR_SECONDS, HIGH_PASS_SECONDS)
