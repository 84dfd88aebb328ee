"""What is regressed out of a scan: slow drift and confounds, in one fit.

T is the number of TRs, V of units, C of regressors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError

_BLOCK_BYTES = 64 * 2**20
"""Units cleaned at a time, in float64."""

_TRS_LEFT = 2
"""With fewer TRs than this beyond what is fitted, the mean included, only rounding is left."""


def drift_cosines(n_trs: int, tr_seconds: float, longest_seconds: float) -> NDArray[np.float64]:
    """Return the cosines that are slower than a period: nilearn's high-pass filter, without the
    seconds that each process takes to import it.

    They are the DCT-II's first C = floor(2 * T * tr_seconds / longest_seconds), so that a scan
    shorter than half a period has none.

    Returns
    -------
    numpy.ndarray, float64, (T, C)
    """
    from scipy.fft import idct

    n_cosines = int(2 * n_trs * tr_seconds / longest_seconds)
    cosines_TC: NDArray[np.float64] = idct(
        np.eye(n_trs, n_cosines, k=-1), axis=0, norm="ortho", type=2
    )
    return cosines_TC


def regress_out(
    bold_TV: NDArray[np.float32], regressors_TC: NDArray[np.float64], file: Path
) -> None:
    """Take what regressors explain from every unit, in place; each keeps its mean.

    A unit is fitted at the TRs at which it is finite. One that never changes stays as it is:
    rounding would turn it into noise that normalisation then blows up. One with too few finite TRs
    to be fitted becomes NaN.

    Parameters
    ----------
    bold_TV : numpy.ndarray, float32, (T, V)
        Where it is not finite, it stays so.
    regressors_TC : numpy.ndarray, float64, (T, C)
    file : Path
        The scan, for messages.

    Raises
    ------
    InputError
        If there are so many regressors that they explain anything.
    """
    n_regressors = regressors_TC.shape[1]
    finite_TV = np.isfinite(bold_TV)
    n_usable = int(finite_TV.any(axis=1).sum())
    if n_regressors + 1 + _TRS_LEFT > n_usable:
        raise InputError(
            f"{file}: {n_regressors} confounds and slow cosines explain any {n_usable} TRs; "
            "name fewer confounds, or a longer --scan.high_pass_seconds"
        )
    # Units that are finite at the same TRs, as nearly all are, share a fit.
    _, of_unit, counts = np.unique(
        np.packbits(finite_TV, axis=0), axis=1, return_inverse=True, return_counts=True
    )
    for units in np.split(np.argsort(of_unit.ravel(), kind="stable"), np.cumsum(counts)[:-1]):
        used_T = finite_TV[:, units[0]]
        if not used_T.any():
            continue
        changes_V = (bold_TV[:, units] != bold_TV[used_T.argmax(), units])[used_T].any(axis=0)
        units = units[changes_V]
        if n_regressors + 1 + _TRS_LEFT > used_T.sum():
            bold_TV[:, units] = np.nan
            continue
        design_TC = regressors_TC[used_T] - regressors_TC[used_T].mean(axis=0)
        design_TC /= np.maximum(np.linalg.norm(design_TC, axis=0), np.finfo(float).tiny)
        n_blocks = max(1, 8 * len(units) * len(bold_TV) // _BLOCK_BYTES)
        for block in np.array_split(units, n_blocks):
            at = np.ix_(used_T, block)
            used_TV = bold_TV[at].astype(np.float64)
            weights_CV = np.linalg.lstsq(design_TC, used_TV - used_TV.mean(axis=0), rcond=None)[0]
            bold_TV[at] = used_TV - design_TC @ weights_CV
