"""Convex weights of several models' predictions, unit by unit, that give the best r.

r knows neither offset nor gain, so that the convex weights of the best r are the weights of
non-negative least squares, divided by their sum (their sum is a gain)::

    u = argmin over u >= 0 of sum over n of (bold_n - sum over m of u_m predicted_mn)^2
    own = u / sum(u)

A unit's own weights are noisy. They are shrunk to the common ones, which fit all units at once (the
same, of the mean over units of the products that it needs), by an amount that predicts best between
folds::

    weights = (1 - shrinkage) own + shrinkage common

Everything follows from the sums of products of predictions and BOLD, which add up over TRs.

Shapes: M members, N rows (TRs of scans), V units, K folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

SHRINKAGES = tuple(step / 10 for step in range(11))
"""Those that are tried."""
_MOST_SWEEPS = 2000
_CONVERGED = 1e-8


@dataclass(frozen=True)
class Sums:
    """Sums over rows of products, float64."""

    gram_VMM: Tensor
    """Of the predictions of two members."""
    cross_VM: Tensor
    """Of a prediction and BOLD."""
    square_V: Tensor
    """Of BOLD and itself."""

    @classmethod
    def of(cls, predicted_MNV: Tensor, bold_NV: Tensor) -> Self:
        """Return the sums of some rows, each scan's about its own mean; 0 where a unit is none."""
        p_VMN, b_VN = predicted_MNV.double().permute(2, 0, 1), bold_NV.double().T
        cross_VM = (p_VMN @ b_VN[:, :, None])[:, :, 0]
        return cls(p_VMN @ p_VMN.transpose(1, 2), cross_VM, b_VN.square().sum(1))

    def __add__(self, other: Sums) -> Sums:
        """Return the sums of other rows of the same units as well."""
        return Sums(
            self.gram_VMM + other.gram_VMM,
            self.cross_VM + other.cross_VM,
            self.square_V + other.square_V,
        )

    @classmethod
    def joined(cls, of_units: Iterable[Sums]) -> Self:
        """Return the sums of some units, and of others after them."""
        each = [(sums.gram_VMM, sums.cross_VM, sums.square_V) for sums in of_units]
        return cls(*map(torch.cat, zip(*each, strict=True)))

    @property
    def mean(self) -> Sums:
        """The mean over units, as of one."""
        return Sums(
            self.gram_VMM.mean(0, keepdim=True),
            self.cross_VM.mean(0, keepdim=True),
            self.square_V.mean(0, keepdim=True),
        )


@dataclass(frozen=True)
class Weights:
    """What was found."""

    own_VM: Tensor
    common_M: Tensor
    """Of each unit, shrunk, and of all units at once; they are not negative and add up to 1."""
    shrinkage: float
    """From 0, each unit's own, to 1, the common ones."""
    folds_KVM: Tensor
    """Found without each fold and its gaps, shrunk alike; there may be no folds."""


def find_weights(every: Sums, folds: Sequence[tuple[Sums, Sums]]) -> Weights:
    """Return the weights of members for each unit.

    Parameters
    ----------
    every : Sums
        Of all rows.
    folds : sequence of (Sums, Sums)
        Of the rows that are fitted on, and of those that are predicted, in each fold. Without any,
        all units have the common weights.
    """
    fitted = [_own_and_common(fit) for fit, _ in folds]
    predicted = [sums for _, sums in folds]
    best, shrinkage = -torch.inf, 1.0
    for tried in reversed(SHRINKAGES if folds else ()):
        r_V = pearson(predicted, [_shrunk(*found, tried) for found in fitted])
        if (r := float(r_V.nanmean())) > best:
            best, shrinkage = r, tried
    own_VM, common_M = _own_and_common(every)
    folds_KVM = [_shrunk(*found, shrinkage) for found in fitted]
    return Weights(
        _shrunk(own_VM, common_M, shrinkage),
        common_M,
        shrinkage,
        torch.stack(folds_KVM) if folds else own_VM.new_zeros(0, *own_VM.shape),
    )


def pearson(sums: Sequence[Sums], weights_VM: Sequence[Tensor]) -> Tensor:
    """Return r (V,) over rows of which each set is predicted with weights of its own.

    NaN of a unit without BOLD, 0 where the prediction is constant.
    """
    products = [
        (
            (each.cross_VM * w_VM).sum(1),
            (each.gram_VMM * w_VM[:, None] * w_VM[:, :, None]).sum((1, 2)),
        )
        for each, w_VM in zip(sums, weights_VM, strict=True)
    ]
    both_V, predicted_V = (torch.stack(of_sets).sum(0) for of_sets in zip(*products, strict=True))
    bold_V = torch.stack([each.square_V for each in sums]).sum(0)
    r_V = both_V / (predicted_V * bold_V).sqrt()
    return torch.where((bold_V > 0) & (predicted_V <= 0), 0.0, r_V)


def _own_and_common(sums: Sums) -> tuple[Tensor, Tensor]:
    """Return the best weights of each unit (V, M), and of all units at once (M,).

    A unit that no member predicts has the common ones; where they predict none, all are alike.
    """
    n_members = sums.cross_VM.shape[1]
    alike_M = torch.full((n_members,), 1 / n_members, dtype=torch.float64)
    common_M = _convex(sums.mean, alike_M.to(sums.cross_VM))[0]
    return _convex(sums, common_M), common_M


def _convex(sums: Sums, otherwise_M: Tensor) -> Tensor:
    found_VM = non_negative(sums.gram_VMM, sums.cross_VM)
    gain_V1 = found_VM.sum(1, keepdim=True)
    return torch.where(gain_V1 > 0, found_VM / gain_V1, otherwise_M)


def _shrunk(own_VM: Tensor, common_M: Tensor, shrinkage: float) -> Tensor:
    return (1 - shrinkage) * own_VM + shrinkage * common_M


def non_negative(gram_VMM: Tensor, cross_VM: Tensor) -> Tensor:
    """Return argmin over u >= 0 of u' gram u - 2 u' cross for each unit, (V, M).

    By coordinate descent (Franc, Hlavac & Navara 2005, doi:10.1007/11556121_50) over all units at
    once: each sweep finds the best of one coordinate after another, the others fixed.
    """
    u_VM = torch.zeros_like(cross_VM)
    scale_VM = gram_VMM.diagonal(dim1=1, dim2=2)
    scale_VM = torch.where(scale_VM > 0, scale_VM, 1.0)  # of a member that is constant, u stays 0
    for _ in range(_MOST_SWEEPS):
        before_VM = u_VM.clone()
        for m in range(u_VM.shape[1]):
            slope_V = cross_VM[:, m] - (gram_VMM[:, m] * u_VM).sum(1)
            u_VM[:, m] = (u_VM[:, m] + slope_V / scale_VM[:, m]).clamp(min=0)
        if bool((u_VM - before_VM).abs().max() <= _CONVERGED):
            break
    return u_VM
