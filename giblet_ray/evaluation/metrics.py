"""How well held-out BOLD is predicted, per voxel, from sums that batches and ranks add up.

Shapes: B rows of one batch (TRs), N rows in all, V voxels, S = 7 sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError

N_SUMS = 7

# A voxel counts as constant where its sum of squared deviations is below this part of its sum of
# squares: a standard deviation of a millionth of the mean, which is float32 rounding of the input.
CONSTANT_PART = 1e-12


@dataclass(frozen=True)
class VoxelMetrics:
    """Scores of a prediction over all its held-out rows.

    Attributes
    ----------
    pearson_V : ndarray
        (V,) float64 Pearson r over rows, within a voxel. NaN for voxels that are not scored: not
        valid, or of constant BOLD. 0 where the prediction is constant: it explains nothing.
    r2_V : ndarray
        (V,) float64 coefficient of determination, 1 - sum (t - p)^2 / sum (t - mean t)^2, over
        the same rows; NaN where `pearson_V` is.
    mse : float
        Mean squared error over rows and valid voxels, those of constant BOLD among them.
    n_rows : int
        N.
    n_constant_targets : int
        Valid voxels left out of the correlations and R2 since their BOLD is constant.
    n_constant_predictions : int
        Scored voxels whose prediction is constant.
    """

    pearson_V: NDArray[np.float64]
    r2_V: NDArray[np.float64]
    mse: float
    n_rows: int
    n_constant_targets: int
    n_constant_predictions: int

    def summary(self) -> dict[str, float]:
        """Return pearson_mean, pearson_median, pearson_p95, r2_mean (over scored voxels), mse."""
        pearson = self.pearson_V[np.isfinite(self.pearson_V)]
        return {
            "pearson_mean": float(pearson.mean()),
            "pearson_median": float(np.median(pearson)),
            "pearson_p95": float(np.percentile(pearson, 95)),
            "r2_mean": float(np.nanmean(self.r2_V)),
            "mse": self.mse,
        }


class VoxelSums:
    """Sums over rows, per voxel, that any partition of the rows adds up to.

    ::

        sums = VoxelSums(n_voxels, device)
        for prediction_BV, target_BV in batches:
            sums.update(prediction_BV, target_BV)
        torch.distributed.all_reduce(sums.tensor)      # where ranks share the rows
        metrics = sums.compute(valid_V)

    Parameters
    ----------
    n_voxels : int
        V.
    device : torch.device or str
        Where the sums are kept; best that of the batches.

    Attributes
    ----------
    tensor : Tensor
        (7, V) float64, to add to another's: the row count, sum p, sum t, sum p^2, sum t^2,
        sum p*t and sum (p - t)^2 of predictions p and targets t.

    Notes
    -----
    Raw sums add up over ranks and batches, and lose nothing here: targets are z-scored and
    predictions have their scale, so that in float64 the subtraction of squared means costs a
    relative (1 + mean^2 / variance) * 1e-16, far below the float32 of the predictions.
    """

    def __init__(self, n_voxels: int, device: torch.device | str = "cpu") -> None:
        if n_voxels < 1:
            raise InputError(f"n_voxels: found {n_voxels}, must be at least 1")
        self.tensor = torch.zeros(N_SUMS, n_voxels, dtype=torch.float64, device=device)

    @classmethod
    def from_tensor(cls, tensor: Tensor) -> VoxelSums:
        """Make sums from the `tensor` of others, or from several added up; it is not copied.

        Raises
        ------
        InputError
            For another shape or type than (7, V) float64.
        """
        if tensor.dim() != 2 or len(tensor) != N_SUMS or tensor.dtype != torch.float64:
            raise InputError(
                f"sums: found {tensor.dtype} of shape {tuple(tensor.shape)}, must be float64 of "
                f"shape ({N_SUMS}, voxels)"
            )
        sums = cls(tensor.shape[1], tensor.device)
        sums.tensor = tensor
        return sums

    @torch.no_grad()
    def update(self, prediction_BV: Tensor, target_BV: Tensor) -> None:
        """Add the rows of a batch; none is allowed.

        Parameters
        ----------
        prediction_BV, target_BV : Tensor
            (B, V), of any floating-point type. Non-finite numbers are found by `compute`, so that
            no batch has to wait for the device, and all ranks find them together.

        Raises
        ------
        InputError
            For shapes that differ, or another number of voxels.
        """
        n_voxels = self.tensor.shape[1]
        if prediction_BV.shape != target_BV.shape or prediction_BV.shape[1:] != (n_voxels,):
            raise InputError(
                f"prediction and target: found shapes {tuple(prediction_BV.shape)} and "
                f"{tuple(target_BV.shape)}, must both be (B, {n_voxels})"
            )
        p_BV = prediction_BV.to(self.tensor)
        t_BV = target_BV.to(self.tensor)
        sums = self.tensor
        sums[0] += len(p_BV)
        sums[1] += p_BV.sum(dim=0)
        sums[2] += t_BV.sum(dim=0)
        sums[3] += p_BV.square().sum(dim=0)
        sums[4] += t_BV.square().sum(dim=0)
        sums[5] += (p_BV * t_BV).sum(dim=0)
        sums[6] += (p_BV - t_BV).square().sum(dim=0)

    def compute(self, valid_V: Tensor | NDArray[np.bool_] | None = None) -> VoxelMetrics:
        """Score every valid voxel over all rows that were added.

        Parameters
        ----------
        valid_V : Tensor or ndarray, optional
            (V,) bool, the voxels that count; by default all.

        Returns
        -------
        VoxelMetrics

        Raises
        ------
        InputError
            Where a valid voxel's prediction or BOLD was not finite (it is never replaced), with
            fewer than two rows, for a mask of another shape, and where no voxel can be scored.
        """
        sums = self.tensor.cpu().numpy()
        n_voxels = sums.shape[1]
        valid = (
            np.ones(n_voxels, bool)
            if valid_V is None
            else np.asarray(torch.as_tensor(valid_V).cpu())
        )
        if valid.shape != (n_voxels,) or valid.dtype != bool:
            raise InputError(
                f"valid_V: found {valid.dtype} of shape {valid.shape}, must be {n_voxels} bools"
            )
        n_rows = int(sums[0, 0])
        if n_rows < 2:
            raise InputError(f"held-out rows: found {n_rows}, correlation needs two or more")
        _, p, t, pp, tt, pt, squared_error = np.where(valid, sums, 0.0)
        _require_finite("BOLD", tt, "mend the scans, or mask these voxels")
        _require_finite("prediction", pp, "training has diverged: lower optimizer.lr")

        p_squares = pp - p * p / n_rows
        t_squares = tt - t * t / n_rows
        p_varies = p_squares > CONSTANT_PART * pp
        scored = t_squares > CONSTANT_PART * tt
        if not scored.any():
            raise InputError(
                f"held-out BOLD: none of the {int(valid.sum())} valid voxels varies over "
                f"{n_rows} rows, one must"
            )
        both = scored & p_varies
        pearson = np.where(scored, 0.0, np.nan)
        pearson[both] = (pt - p * t / n_rows)[both] / np.sqrt(p_squares[both] * t_squares[both])
        r2 = np.full(n_voxels, np.nan)
        r2[scored] = 1 - squared_error[scored] / t_squares[scored]
        return VoxelMetrics(
            # Rounding may take a perfect correlation past 1.
            pearson_V=np.clip(pearson, -1.0, 1.0),
            r2_V=r2,
            mse=float(squared_error.sum() / (n_rows * valid.sum())),
            n_rows=n_rows,
            n_constant_targets=int((valid & ~scored).sum()),
            n_constant_predictions=int((scored & ~p_varies).sum()),
        )


def world_size() -> int:
    """Return how many ranks there are; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _require_finite(name: str, square_sums_V: NDArray[np.float64], remedy: str) -> None:
    """Refuse non-finite values, by the sum of their squares, which is then not finite either."""
    bad = np.flatnonzero(~np.isfinite(square_sums_V))
    if len(bad):
        raise InputError(
            f"{name}: found NaN or infinity in {len(bad)} of {len(square_sums_V)} voxels (first: "
            f"voxel {bad[0]}), must be finite; {remedy}"
        )
