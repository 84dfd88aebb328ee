"""The error of a mean over TRs that depend on one another, from its slowest cosines.

A series of T TRs is projected on the cosines of 1 to N half periods. Where N is so few that even
the fastest is slow beside the autocorrelation, each projection varies by chance exactly as the sum
of the series does, and the N are independent::

    a_j = sqrt(2) * sum over t of cos(pi j (t + 1/2) / T) x_t,   j = 1 ... N
    standard error of the sum = sqrt(mean of a_j^2),  with Student's t of N degrees of freedom

(equal-weighted cosines: Lazarus, Lewis, Stock & Watson 2018, doi:10.1080/07350015.2018.1506926).
Sums over blocks need blocks so long that none knows of its neighbour, ten times the time constant,
and 2,000 TRs with errors of a minute have four; of cosines there are more, and their fall towards
the fast ones is slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from giblet_ray.evaluation.blocks import block_length

LEAST_COSINES = 4
_BLOCKS_PER_HALF_PERIOD = 4

Floats = NDArray[np.float64]


def n_cosines(stretches: Sequence[Floats], least_trs: int) -> int:
    """Return how many cosines are slow: half a period of the fastest is four blocks or more.

    Parameters
    ----------
    stretches : sequence of ndarray
        The series, see :func:`.blocks.block_length`, which measures how long a block is.
    least_trs : int
        The shortest block: the haemodynamic response.

    Notes
    -----
    Four at least, so that there is an error at all: in a series shorter than 16 blocks the error
    is then somewhat too small.
    """
    n_trs = sum(map(len, stretches))
    return max(
        LEAST_COSINES, n_trs // (_BLOCKS_PER_HALF_PERIOD * block_length(stretches, least_trs))
    )


def slow_cosines(series_T: Floats, n: int) -> Floats:
    """Return a series' projections on its slowest cosines, each as large as an error of its sum.

    Parameters
    ----------
    series_T : ndarray
        (T,), stretches one after another: what a gap separates counts as neighbours, which makes
        no difference to independent stretches.
    n : int
        N; fewer where the series is shorter.

    Returns
    -------
    ndarray
        (N,) float64; their root mean square is the standard error of the sum of the series.

    Notes
    -----
    By FFT of the series and as many zeros, its phase that of TRs' middles: O(T log T), whatever N.
    """
    n_trs = len(series_T)
    j = np.arange(1, min(n, n_trs - 1) + 1)
    spectrum_N = np.fft.rfft(series_T, 2 * n_trs)[j] * np.exp(-0.5j * np.pi * j / n_trs)
    return np.sqrt(2) * spectrum_N.real


def student_quantile(share: float, n: int) -> float:
    """Return the quantile of Student's t with n degrees of freedom."""
    angle, below = _student(n)
    return float(np.sqrt(n) * np.tan(np.interp(share, below, angle)))


def student_p(t: float, n: int) -> float:
    """Return the two-sided p of a t with n degrees of freedom."""
    angle, below = _student(n)
    return float(min(1.0, 2 * np.interp(-np.arctan(abs(t) / np.sqrt(n)), angle, below)))


def _student(n: int) -> tuple[Floats, Floats]:
    """Return angles a and how much of t lies below sqrt(n) tan a, whose density is cos^(n-1) a."""
    # Finer where n is large, since all lies within a few 1 / sqrt(n) of 0.
    angle = np.arctan(np.sinh(np.linspace(-12, 12, 20001)) / np.sqrt(n))
    angle = np.concatenate([[-np.pi / 2], angle, [np.pi / 2]])
    density = np.exp((n - 1) * np.log(np.maximum(np.cos(angle), 1e-300)))
    areas = np.diff(angle) * (density[1:] + density[:-1]) / 2
    below = np.concatenate([[0], np.cumsum(areas)])
    return angle, below / below[-1]
