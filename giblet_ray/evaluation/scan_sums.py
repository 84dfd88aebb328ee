"""Sums from which held-out BOLD is scored: per scan and unit, then subject, then over subjects.

Shapes: S scans, T TRs of a scan, V units of a scan, U units of all scans together, K = 5 moments.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.unit_scores import HeldOutScores, UnitScores, mean_scores

N_MOMENTS = 5
_P, _T, _PP, _TT, _PT = range(N_MOMENTS)

# A unit counts as constant where its sum of squared deviations is below this part of its sum of
# squares: a standard deviation of a millionth of the mean, which is float32 rounding of the input.
CONSTANT_PART = 1e-12

Mask = Tensor | NDArray[np.bool_]


class ScanSums:
    """Sums per scan and unit, that any partition of the TRs over batches, ranks and folds adds to.

    ::

        sums = ScanSums(subjects, n_units, device)
        for scan, prediction_TV, target_TV in batches:
            sums.add(scan, prediction_TV, target_TV)
        sums.reduce()                       # where ranks share the TRs
        sums.merge(of_another_fold)
        scores = sums.compute(valid)

    Parameters
    ----------
    subjects : sequence of str
        (S,) the subject of each scan.
    n_units : int or sequence of int
        V, of all scans or of each; the same in all scans of a subject.
    units_are_shared : bool
        Whether a unit is the same one in all subjects, where they have as many.
    device : torch.device or str
        Where the sums are kept; best that of the batches. Memory: 40 bytes per scan and unit.

    Attributes
    ----------
    n_S : Tensor
        (S,) float64 on the CPU, TRs of each scan.
    moments_KU : Tensor
        (5, U) float64: mean p, mean t, and the sums of (p - mean p)^2, (t - mean t)^2 and
        (p - mean p)(t - mean t) of predictions p and targets t, scan after scan.

    Notes
    -----
    Moments about the mean are merged as Chan, Golub & LeVeque (1983, equation 2.1) do, so that a
    scan's own offset and scale leave r as it is even where its mean is 10,000 times its SD.
    """

    def __init__(
        self,
        subjects: Sequence[str],
        n_units: int | Sequence[int],
        device: torch.device | str = "cpu",
        units_are_shared: bool = True,
    ) -> None:
        self.subjects = tuple(subjects)
        each = [n_units] * len(subjects) if isinstance(n_units, int) else list(n_units)
        of_subject = dict(zip(self.subjects, each, strict=True))
        if not each or min(each) < 1 or each != [of_subject[name] for name in self.subjects]:
            raise InputError(
                f"n_units: found {n_units} for scans of {', '.join(self.subjects) or 'nobody'}, "
                "must be at least 1, and the same in all scans of a subject"
            )
        self.n_units = tuple(each)
        self._units_are_shared = units_are_shared and len(set(each)) == 1
        self.n_S = torch.zeros(len(each), dtype=torch.float64)
        self.moments_KU = torch.zeros(N_MOMENTS, sum(each), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, scan: int, prediction_TV: Tensor, target_TV: Tensor) -> None:
        """Add TRs of one scan; none is allowed.

        Parameters
        ----------
        scan : int
            Index of the scan.
        prediction_TV, target_TV : Tensor
            (T, V), of any floating-point type, summed in float64. Non-finite numbers are found by
            `compute`, so that no batch has to wait for the device, and all ranks find them
            together.

        Raises
        ------
        InputError
            For shapes that differ, or another number of units.
        """
        n_units = self.n_units[scan]
        if prediction_TV.shape != target_TV.shape or prediction_TV.shape[1:] != (n_units,):
            raise InputError(
                f"prediction and target: found shapes {tuple(prediction_TV.shape)} and "
                f"{tuple(target_TV.shape)}, must both be (TRs, {n_units})"
            )
        if not len(prediction_TV):
            return
        p_TV, t_TV = (rows.to(self.moments_KU) for rows in (prediction_TV, target_TV))
        p_V, t_V = p_TV.mean(dim=0), t_TV.mean(dim=0)
        p_TV, t_TV = p_TV - p_V, t_TV - t_V
        squares = (p_TV.square().sum(0), t_TV.square().sum(0), (p_TV * t_TV).sum(0))
        self._add_moments(scan, len(p_TV), torch.stack([p_V, t_V, *squares]))

    def merge(self, other: ScanSums) -> None:
        """Add what another has of the same scans.

        Raises
        ------
        InputError
            If its scans are not the same.
        """
        if (self.subjects, self.n_units) != (other.subjects, other.n_units):
            raise InputError(
                f"scan sums: found scans of {', '.join(other.subjects)} with {other.n_units} "
                f"units, must be of {', '.join(self.subjects)} with {self.n_units}"
            )
        for scan, n in enumerate(other.n_S.tolist()):
            self._add_moments(scan, n, other._of(scan).to(self.moments_KU))

    def reduce(self) -> None:
        """Add up the sums of all ranks, which then have the same; every rank calls it together."""
        if world_size() == 1:
            return
        device = self.moments_KU.device
        n_U, means = self._n_of_units(), self.moments_KU[: _T + 1].clone()
        totals = torch.cat([n_U[None], n_U * means])
        dist.all_reduce(totals)
        n_all_U = totals[0].clamp(min=1)
        common = totals[1:] / n_all_U
        # Each rank's sums of squares, about the mean of all ranks.
        p_V, t_V = means - common
        self.moments_KU[_PP:] += n_U * torch.stack([p_V * p_V, t_V * t_V, p_V * t_V])
        squares = self.moments_KU[_PP:].contiguous()
        dist.all_reduce(squares)
        self.moments_KU = torch.cat([common, squares])
        n_S = self.n_S.to(device)
        dist.all_reduce(n_S)
        self.n_S = n_S.cpu()

    def compute(self, valid: Mask | Sequence[Mask | None] | None = None) -> HeldOutScores:
        """Score every scan, subject by subject, and over subjects.

        Parameters
        ----------
        valid : Tensor or ndarray, or a sequence of them, optional
            (V,) bool, the units that count, in all scans or in each; by default all. A unit that
            is masked, or constant, in one scan is scored in the others.

        Raises
        ------
        InputError
            Where the prediction or BOLD of a unit that counts is not finite (it is never
            replaced), for a mask of another shape, without a TR, and where no unit of a subject
            can be scored, which takes two TRs of a scan at least.
        """
        if valid is None or isinstance(valid, Tensor | np.ndarray):
            valid = [valid] * len(self.n_S)
        scans = tuple(
            self._scores(scan, int(n), mask) if n else None
            for scan, (n, mask) in enumerate(zip(self.n_S.tolist(), valid, strict=True))
        )
        of_subject: dict[str, list[UnitScores]] = {}
        for subject, scores in zip(self.subjects, scans, strict=True):
            if scores is not None:
                of_subject.setdefault(subject, []).append(scores)
        if not of_subject:
            raise InputError("held-out TRs: found 0, correlation needs two or more")
        subjects = {subject: mean_scores(scores) for subject, scores in of_subject.items()}
        for subject, scores in subjects.items():
            if np.isnan(scores.pearson_V).all():
                raise InputError(
                    f"held-out BOLD of subject {subject}: no unit that counts varies over the "
                    f"{scores.n_trs} TRs of its scans, one must"
                )
        mean = mean_scores(list(subjects.values())) if self._units_are_shared else None
        return HeldOutScores(scans, subjects, mean)

    def _of(self, scan: int) -> Tensor:
        """Return a view of a scan's moments, (K, V)."""
        first = sum(self.n_units[:scan])
        return self.moments_KU[:, first : first + self.n_units[scan]]

    def _n_of_units(self) -> Tensor:
        """Return the TRs of each unit's scan, (U,)."""
        repeats = torch.tensor(self.n_units)
        return torch.repeat_interleave(self.n_S, repeats).to(self.moments_KU)

    def _add_moments(self, scan: int, n: float, other_KV: Tensor) -> None:
        moments_KV, before = self._of(scan), float(self.n_S[scan])
        total = before + n
        if not n:
            return
        p_V, t_V = other_KV[: _T + 1] - moments_KV[: _T + 1]
        moments_KV[: _T + 1] += torch.stack([p_V, t_V]) * (n / total)
        steps = torch.stack([p_V * p_V, t_V * t_V, p_V * t_V]) * (before * n / total)
        moments_KV[_PP:] += other_KV[_PP:] + steps
        self.n_S[scan] = total

    def _scores(self, scan: int, n: int, mask: Mask | None) -> UnitScores:
        moments = self._of(scan).cpu().numpy()
        valid = _as_mask(mask, moments.shape[1])
        where = f"scan {scan} of subject {self.subjects[scan]}"
        _, _, pp, tt, pt = moments = np.where(valid, moments, 0.0)
        _require_finite(f"BOLD of {where}", tt, "mend the scan, or mask these units")
        _require_finite(f"prediction of {where}", pp, "training has diverged: lower optimizer.lr")
        varies, scored = moments[_PP:_PT] > CONSTANT_PART * (
            moments[_PP:_PT] + n * np.square(moments[: _T + 1])
        )
        pearson = np.where(scored, 0.0, np.nan)
        both = scored & varies
        pearson[both] = pt[both] / np.sqrt(pp[both] * tt[both])
        error = pp + tt - 2 * pt + n * np.square(moments[_P] - moments[_T])
        r2 = np.full(len(valid), np.nan)
        r2[scored] = 1 - error[scored] / tt[scored]
        # Rounding may take a perfect correlation past 1.
        mse = float(error.sum() / (n * valid.sum())) if valid.any() else np.nan
        return UnitScores(np.clip(pearson, -1.0, 1.0), r2, mse, n)


def world_size() -> int:
    """Return how many ranks there are; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _as_mask(mask: Mask | None, n_units: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(n_units, bool)
    valid = np.asarray(torch.as_tensor(mask).cpu())
    if valid.shape != (n_units,) or valid.dtype != bool:
        raise InputError(
            f"valid: found {valid.dtype} of shape {valid.shape}, must be {n_units} bools"
        )
    return valid


def _require_finite(name: str, squares_V: NDArray[np.float64], remedy: str) -> None:
    """Refuse non-finite values, by the sum of their squares, which is then not finite either."""
    bad = np.flatnonzero(~np.isfinite(squares_V))
    if len(bad):
        raise InputError(
            f"{name}: found NaN or infinity in {len(bad)} of {len(squares_V)} units (first: "
            f"unit {bad[0]}), must be finite; {remedy}"
        )
