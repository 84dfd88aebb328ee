"""What chance gives: BOLD shifted in time, so that it has nothing to do with the film any more.

BOLD of a scan is shifted circularly, by another random number of TRs in each permutation, and the
prediction stays::

    film       |a b c d e f g h|
    BOLD       |a'b'c'd'e'f'g'h'|       observed
    shifted    |d'e'f'g'h'a'b'c'|       by 3 TRs; all units and all scans of the film alike

Both keep their autocorrelation, units their dependence on one another, and subjects theirs: what
all subjects do together at a TR stays together, so that a mean over subjects has its own null. A
shift is at least as long as the response lasts, in either direction.

r at all T shifts is one cross-correlation, found by FFT: O(T log T) per unit and scan, however
many permutations there are; of 85,810 units x 2,000 TRs it takes seconds.

Shapes: S scans, T TRs of a scan, V units, P permutations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import z_scored
from giblet_ray.evaluation.unit_scores import nanmean

N_PERMUTATIONS = 1000
_UNITS_AT_A_TIME = 256


@dataclass(frozen=True)
class Null:
    """r of each unit, and what it would be by chance."""

    pearson_V: NDArray[np.float64]
    """(V,) float64, mean over scans; NaN where no scan is scored."""
    null_VP: NDArray[np.float32]
    """(V, P) float32, the same under permutation; 4 * V * P bytes."""
    weight_V: NDArray[np.float64] | None = None
    """(V,) what each scored unit's r counts for in their mean; None: all alike."""

    def p_values(self) -> NDArray[np.float64]:
        """Return the one-sided p of each unit, (1 + how many by chance are as high) / (1 + P).

        The observed order is one of those that chance could have given, so that p is never 0
        (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). NaN where a unit is not scored.
        """
        counts_V = np.empty(len(self.pearson_V))
        for start in range(0, len(counts_V), _UNITS_AT_A_TIME):
            units = slice(start, start + _UNITS_AT_A_TIME)
            counts_V[units] = (self.null_VP[units] >= self.pearson_V[units, None]).sum(axis=1)
        p_V = (1 + counts_V) / (1 + self.null_VP.shape[1])
        return np.where(np.isfinite(self.pearson_V), p_V, math.nan)

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many permutations can give."""
        return 1 / (1 + self.null_VP.shape[1])

    @property
    def means(self) -> NDArray[np.floating]:
        """The mean r over the scored units, under each permutation."""
        scored_V = np.isfinite(self.pearson_V)
        if self.weight_V is None:
            return self.null_VP[scored_V].mean(axis=0)
        weight_V = self.weight_V[scored_V]
        return weight_V @ self.null_VP[scored_V] / weight_V.sum()

    def percentile(
        self, statistic: Callable[[NDArray], NDArray] | None = None, q: float = 95.0
    ) -> float:
        """Return a percentile of what a summary over units would be by chance.

        Parameters
        ----------
        statistic : callable, optional
            From the scored units' r, (units, P), to (P,): ``lambda r: np.percentile(r, 95, 0)``
            (default: :attr:`means`).
        q : float
            Which percentile, over permutations.
        """
        if statistic is None:
            return float(np.percentile(self.means, q))
        scored = self.null_VP[np.isfinite(self.pearson_V)]
        return float(np.percentile(statistic(scored), q))


def draw_shifts(
    stimuli: Sequence[Hashable], n_trs: Sequence[int], least_trs: int, n: int, seed: int
) -> NDArray[np.int64]:
    """Draw by how many TRs each scan's BOLD is shifted.

    Parameters
    ----------
    stimuli : sequence
        (S,) the film of each scan; scans of one film are shifted alike.
    n_trs : sequence of int
        (S,) TRs of each scan; those of one film that differ are shifted by the same part of theirs.
    least_trs : int
        The shortest shift in either direction: the measured block length, which is never under the
        haemodynamic response.
    n : int
        Permutations. Where one film has no more shifts than that, each is taken once.
    seed : int
        Of the draws.

    Returns
    -------
    ndarray
        (S, P) int64.

    Raises
    ------
    InputError
        If a scan is too short to be shifted.
    """
    free = [trs - 2 * least_trs + 1 for trs in n_trs]
    if min(free) < 1:
        raise InputError(
            f"scan of {min(n_trs)} TRs: cannot be shifted by {least_trs} TRs or more in both "
            f"directions, which takes {2 * least_trs}; hold out longer parts (data.split)"
        )
    random = np.random.default_rng(seed)
    films = list(dict.fromkeys(stimuli))
    if len(films) == 1 and max(free) <= n:
        part_FP = (np.arange(max(free))[None] + 0.5) / max(free)
    elif len(films) == 1:
        part_FP = (random.permutation(max(free))[None, :n] + 0.5) / max(free)
    else:
        part_FP = random.random((len(films), n))
    return np.stack(
        [
            least_trs + np.floor(part_FP[films.index(film)] * of_scan).astype(np.int64)
            for film, of_scan in zip(stimuli, free, strict=True)
        ]
    )


@torch.no_grad()
def shift_null(
    predictions: Sequence[Tensor],
    bold: Sequence[Tensor],
    shifts_SP: NDArray[np.int64],
    report: Callable[[float], None] = lambda done: None,
) -> Null:
    """Return the mean r over scans, and its null, of each unit.

    Of several subjects: call it for each, with the rows of `shifts_SP` that are theirs, and take
    the mean of the results, see :func:`mean_null`.

    Parameters
    ----------
    predictions, bold : sequence of Tensor
        (T, V) of each scan, of any floating-point type, on one device.
    shifts_SP : ndarray
        (S, P) from :func:`draw_shifts`.
    report : callable, optional
        Is told the share that is done.

    Returns
    -------
    Null
        A unit that is constant or not finite in one scan is that of the others.

    Notes
    -----
    Assumes that the film's relation to BOLD, if there were none, would be the same at every shift:
    both stationary, so that slow drift is removed before. FFT and products are in the rows' own
    precision, 1e-6 in float32. Memory: that of the rows and the result, and 64 bytes x T x 256.
    """
    n_units, n_permutations = bold[0].shape[1], shifts_SP.shape[1]
    pearson_V = np.empty(n_units)
    null_VP = np.empty((n_units, n_permutations), np.float32)
    device = bold[0].device
    shifts = torch.as_tensor(shifts_SP, device=device)
    nan = torch.tensor(math.nan, dtype=torch.float64, device=device)
    for start in range(0, n_units, _UNITS_AT_A_TIME):
        units = slice(start, start + _UNITS_AT_A_TIME)
        n = len(pearson_V[units])
        observed, count_V = torch.zeros(2, n, dtype=torch.float64, device=device)
        total = torch.zeros(n, n_permutations, device=device)
        for scan, (prediction_TV, bold_TV) in enumerate(zip(predictions, bold, strict=True)):
            r_VT, scored_V = _at_all_shifts(prediction_TV[:, units], bold_TV[:, units])
            observed += r_VT[:, 0]
            total += r_VT.index_select(1, shifts[scan])
            count_V += scored_V
        count_V = torch.where(count_V > 0, count_V, nan)
        pearson_V[units] = (observed / count_V).cpu().numpy()
        null_VP[units] = (total / count_V[:, None]).cpu().numpy()
        report(min(1.0, units.stop / n_units))
    return Null(pearson_V, null_VP)


def mean_null(nulls: Sequence[Null], units_are_shared: bool = True) -> Null:
    """Return the mean over subjects, unit by unit, over those that have a score of it.

    Where their units differ, all units stand one after another, and each subject counts alike.
    """
    if not units_are_shared:
        scored = [np.isfinite(null.pearson_V) for null in nulls]
        return Null(
            np.concatenate([null.pearson_V for null in nulls]),
            np.concatenate([null.null_VP for null in nulls]),
            np.concatenate([scored_V / max(1, scored_V.sum()) for scored_V in scored]),
        )
    n_V = np.sum([np.isfinite(null.pearson_V) for null in nulls], axis=0)
    n_V = np.where(n_V > 0, n_V, np.nan)
    null_VP = np.zeros_like(nulls[0].null_VP)
    for null in nulls:
        null_VP += np.nan_to_num(null.null_VP)
    null_VP /= n_V[:, None].astype(np.float32)
    return Null(nanmean([null.pearson_V for null in nulls]), null_VP)


def _at_all_shifts(prediction_TV: Tensor, bold_TV: Tensor) -> tuple[Tensor, Tensor]:
    """Return r at shifts of 0 to T - 1 TRs, (V, T), and which units are scored, (V,)."""
    kind = torch.promote_types(prediction_TV.dtype, bold_TV.dtype)
    kind = kind if kind == torch.float64 else torch.float32
    p_TV, _ = z_scored(prediction_TV)
    b_TV, scored_V = z_scored(bold_TV)
    n_trs = len(b_TV)
    p_VT, b_VT = (rows.to(kind).T.contiguous() for rows in (p_TV, b_TV))
    product = torch.fft.rfft(p_VT).conj() * torch.fft.rfft(b_VT)
    return torch.fft.irfft(product, n=n_trs) / n_trs, scored_V
