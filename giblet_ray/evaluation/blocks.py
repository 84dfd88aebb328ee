"""How long what disturbs a score lasts: block lengths from the measured autocorrelation.

All lengths are in TRs. A series comes as stretches of consecutive TRs: no lag crosses a gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError

Floats = NDArray[np.float64]


def autocovariance(stretches: Sequence[Floats], n_lags: int) -> Floats:
    """Return the autocovariance at lags 0 to `n_lags`, over all stretches together.

    Divided by the number of all TRs, as is usual, so that the sequence is positive definite where
    there is one stretch. The mean is that of all stretches. Costs O(T log T).
    """
    total = np.concatenate(stretches)
    found = np.zeros(n_lags + 1)
    for stretch in stretches:
        deviation = stretch - total.mean()
        spectrum = np.fft.rfft(deviation, 2 * len(deviation))
        products = np.fft.irfft(np.abs(spectrum) ** 2)[: min(len(deviation), n_lags + 1)]
        found[: len(products)] += products
    return found / len(total)


def block_length(stretches: Sequence[Floats], least_trs: int) -> int:
    """Return the block length that a block bootstrap of the mean is most exact with.

    ::

        b = (2 G^2 / D)^(1/3) n^(1/3),   G = sum |k| R(k),   D = 4/3 (sum R(k))^2

    with autocovariances R weighted by a flat-top window that ends at twice the lag after which
    none differs from 0 (Politis & White 2004, doi:10.1081/ETC-120028836, corrected by Patton,
    Politis & White 2009).

    Parameters
    ----------
    stretches : sequence of ndarray
        The series whose mean is wanted, here the influence of each TR on a mean r.
    least_trs : int
        Never shorter than this: the haemodynamic response.

    Returns
    -------
    int
        At least `least_trs`, and otherwise at most a third of all TRs.

    Raises
    ------
    InputError
        If `least_trs` is below 1, or there are no two TRs.

    Notes
    -----
    Assumes that the series is stationary and that its autocorrelation ends.
    """
    n = sum(map(len, stretches))
    if least_trs < 1 or n < 2:
        raise InputError(f"block length: found {n} TRs and a least of {least_trs}, need 2 and 1")
    longest = max(map(len, stretches))
    n_bound = max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    last = min(int(np.ceil(np.sqrt(n))) + n_bound, longest - 1)
    covariance = autocovariance(stretches, 2 * last)
    if covariance[0] <= 0:
        return least_trs
    small = np.abs(covariance[1:] / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    ends = [m for m in range(last) if small[m : m + n_bound].all()]
    window = 2 * max(1, ends[0] if ends else last)
    lags = np.arange(min(window, len(covariance) - 1) + 1)
    weights = np.clip(2 * (1 - lags / window), 0, 1) * np.where(lags, 2, 1)
    weighted = weights * covariance[: len(lags)]
    spectrum, slope = weighted.sum(), (lags * weighted).sum()
    if spectrum <= 0:
        return least_trs
    best = (1.5 * (slope / spectrum) ** 2 * n) ** (1 / 3)
    return max(least_trs, min(int(np.ceil(best)), n // 3))


def cut_blocks(n_trs: int, block_trs: int) -> NDArray[np.int64]:
    """Return the block of each TR of a stretch: as many of at least `block_trs` as there are.

    Blocks of one stretch differ by one TR at most; a shorter stretch is one block::

        45 TRs, blocks of 14    |-------15------|-------15------|-------15------|
    """
    n_blocks = max(1, n_trs // block_trs)
    return np.arange(n_trs, dtype=np.int64) * n_blocks // n_trs
