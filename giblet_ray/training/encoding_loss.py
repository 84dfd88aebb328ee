"""The loss of a global batch, the same for any number of ranks that share it.

Shapes: B rows of this rank, N rows of all ranks together, V voxels, S subjects whose voxels are
not the same ones (1: all share them). A voxel may be valid in the rows of some subjects and not in
those of others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.evaluation.unit_scores import HeldOutScores

# A voxel counts as constant over a batch where its standard deviation is below this part of
# (1 + |mean|): what is left of a constant after float32 rounding, in units of z-scored BOLD.
CONSTANT_STD = 32 * torch.finfo(torch.float32).eps


class LossTerms(NamedTuple):
    """What `EncodingLoss` returns: scalar float32 tensors.

    Attributes
    ----------
    objective : Tensor
        This rank's share, to call `backward()` on. Gradients averaged over the ranks, as
        DistributedDataParallel does, are those of `loss`; with `units_apart`, they are added up.
    loss : Tensor
        mse + weight * correlation_loss; this and the following are the same on every rank and
        carry no gradient.
    mse : Tensor or None
        Mean over rows of the mean squared error over a row's valid voxels; None of a loss of the
        user's own.
    correlation_loss : Tensor or None
        Mean of (1 - Pearson r) over voxels that are valid in some row, then over subjects; None
        where its weight is 0.
    """

    objective: Tensor
    loss: Tensor
    mse: Tensor | None
    correlation_loss: Tensor | None

    @property
    def logged(self) -> dict[str, Tensor]:
        """What is recorded, by name."""
        terms = {"loss": self.loss, "mse": self.mse, "correlation_loss": self.correlation_loss}
        return {name: term for name, term in terms.items() if term is not None}


class EncodingLoss(nn.Module):
    """Mean squared error on z-scored BOLD plus a weight times (1 - Pearson r).

    ::

        loss = mean over n of mean over v of (p_nv - t_nv)^2
             + weight * mean over s of mean over v of (1 - r_sv)

    for predictions p, targets t, the rows n of all ranks, and the voxels v that are valid in them.
    r_sv correlates over the rows in which voxel v is valid: those of subject s, or of all of them
    where they share their voxels. A voxel whose prediction or target does not vary over them has
    r_sv = 0 and no gradient through it. Subjects without a row do not count.

    Parameters
    ----------
    correlation_weight : float
        At 0, correlations are neither computed nor communicated.
    n_subjects : int
        S; 1 where subjects share their voxels.
    units_apart : bool
        Whether a rank has all rows of the batch, and some of the voxels, instead of some rows, and
        all voxels. Gradients are then added up by who shares out the voxels, and nothing but a few
        numbers is sent.

    Raises
    ------
    InputError
        For a negative weight.

    Notes
    -----
    Under a process group every rank must call the loss equally often, with whatever rows it has
    (none is allowed). Without one the same code runs on one process.

    Gradient accumulation: call the loss on each part of the batch with the same `global_rows`; the
    parts' terms add up. The squared error is then exactly that of the whole batch; correlations
    are over the rows of each part, averaged in proportion to its rows.

    r is found from sums about the global means, in two all-reduces (of 3SV + 1 numbers each): raw
    sums of squares in float32 would cancel where a prediction is far from 0.
    """

    def __init__(
        self, correlation_weight: float = 0.0, n_subjects: int = 1, units_apart: bool = False
    ) -> None:
        super().__init__()
        if not (math.isfinite(correlation_weight) and correlation_weight >= 0):
            raise InputError(
                f"correlation_weight: found {correlation_weight}, must be finite and at least 0"
            )
        self.correlation_weight, self._n_subjects = correlation_weight, n_subjects
        self._units_apart = units_apart

    def forward(
        self,
        prediction_BV: Tensor,
        target_BV: Tensor,
        valid_BV: Tensor,
        global_rows: int,
        subject_B: Tensor | None = None,
        n_valid_B: Tensor | None = None,
    ) -> LossTerms:
        """Compute the loss of this rank's rows and of the global batch that they are part of.

        Parameters
        ----------
        prediction_BV, target_BV : Tensor
            (B, V) BOLD, z-scored, of any floating-point type; computed in float32.
        valid_BV : Tensor
            (B, V) bool, what counts; a voxel of each row at least.
        global_rows : int
            N, rows of all ranks (and all accumulated parts) in this optimizer step.
        subject_B : Tensor, optional
            (B,) int64, whose each row is, on the CPU; of one subject, or of all who share their
            voxels, it is not needed.
        n_valid_B : Tensor, optional
            (B,) voxels that count in each row, of all ranks (default: those of `valid_BV`).

        Returns
        -------
        LossTerms
            Non-finite numbers pass through, except those of voxels that are not valid.

        Raises
        ------
        InputError
            For shapes that differ, or more local than global rows.
        """
        rows = len(prediction_BV)
        if not prediction_BV.shape == target_BV.shape == valid_BV.shape:
            raise InputError(
                f"target and valid: found shapes {tuple(target_BV.shape)} and "
                f"{tuple(valid_BV.shape)}, must be that of the prediction, "
                f"{tuple(prediction_BV.shape)}"
            )
        if not rows <= global_rows or global_rows < 1:
            raise InputError(
                f"global_rows: found {global_rows}, must be at least 1 and the {rows} of this rank"
            )
        # Voxels that are not valid leave here, since a NaN times 0 would still be one.
        prediction_BV = torch.where(valid_BV, prediction_BV.float(), 0.0)
        target_BV = torch.where(valid_BV, target_BV.float(), 0.0)
        squares_B = (prediction_BV - target_BV).square().sum(dim=1)
        n_valid_B = valid_BV.sum(dim=1) if n_valid_B is None else n_valid_B
        squared_error = (squares_B / n_valid_B).sum() / global_rows
        # Ranks' gradients of what they share will be averaged, where these have to be added.
        objective = squared_error if self._units_apart else world_size() * squared_error
        if self.correlation_weight == 0:
            mse = sum_over_ranks(squared_error.detach())
            return LossTerms(objective, mse, mse, None)

        pearson_SV, rows_SV, batch_rows, mse = self._global_pearson(
            prediction_BV, target_BV, valid_BV, squared_error.detach(), subject_B
        )
        counts_SV = rows_SV > 0
        n_S = counts_SV.sum(dim=1)
        n_S = sum_over_ranks(n_S) if self._units_apart else n_S
        of_each_S = torch.where(counts_SV, 1 - pearson_SV, 0.0).sum(dim=1) / n_S.clamp(min=1)
        dissimilarity = of_each_S.sum() / (n_S > 0).sum()
        correlation_loss = dissimilarity * (batch_rows / global_rows)
        objective = objective + self.correlation_weight * correlation_loss
        correlation_loss = correlation_loss.detach()
        if self._units_apart:
            mse, correlation_loss = sum_over_ranks(torch.stack([mse, correlation_loss])).unbind()
        loss = mse + self.correlation_weight * correlation_loss
        return LossTerms(objective, loss, mse, correlation_loss)

    def of_rows(self, prediction_BV: Tensor, target_BV: Tensor, valid_BV: Tensor) -> Tensor:
        """Return nothing of held-out rows: their loss follows from their scores."""
        return prediction_BV.new_zeros(())

    def held_out(self, scores: HeldOutScores, mean_of_rows: float) -> float:
        """Return the loss of all held-out rows together."""
        summary = scores.summary()
        return summary["mse"] + self.correlation_weight * (1 - summary["pearson_mean"])

    def _global_pearson(
        self,
        prediction_BV: Tensor,
        target_BV: Tensor,
        valid_BV: Tensor,
        squared_error: Tensor,
        subject_B: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return r per subject and voxel (S, V), the rows of all ranks that it is valid in and
        those of all voxels, and the squared errors' global sum."""
        shape = self._n_subjects, prediction_BV.shape[1]
        n = shape[0] * shape[1]
        rows_of = self._rows_of_subjects(subject_B, prediction_BV.device)

        def summed(rows_BV: Tensor) -> Tensor:
            of_subjects = [(rows_BV if at is None else rows_BV[at]).sum(dim=0) for at in rows_of]
            return torch.cat(of_subjects)

        def of_its_row(values_SV: Tensor) -> Tensor:
            if subject_B is None or len(rows_of) == 1:
                return values_SV
            return values_SV[subject_B.to(values_SV.device)]

        with torch.no_grad():
            rows_SV = summed(valid_BV.to(prediction_BV.dtype))
            sums = [rows_SV, summed(prediction_BV), summed(target_BV)]
            every = torch.cat([*sums, rows_SV.new_full((1,), len(valid_BV))])
            every = every if self._units_apart else sum_over_ranks(every)
            *of_means, batch_rows = every.split([n, n, n, 1])
            rows_SV, prediction_sum_SV, target_sum_SV = (each.view(shape) for each in of_means)
            prediction_mean_SV = prediction_sum_SV / rows_SV.clamp(min=1)
            target_mean_SV = target_sum_SV / rows_SV.clamp(min=1)
        # The means are constants to autograd: their gradient would be multiplied by the sum of
        # deviations from a mean, which is 0.
        prediction_BV = torch.where(valid_BV, prediction_BV - of_its_row(prediction_mean_SV), 0.0)
        target_BV = torch.where(valid_BV, target_BV - of_its_row(target_mean_SV), 0.0)
        products = torch.cat(
            [
                summed(prediction_BV * target_BV),
                summed(prediction_BV.square()),
                summed(target_BV.square()),
                squared_error.reshape(1),
            ]
        )
        products = products if self._units_apart else _SumOverRanks.apply(products)
        *of_squares, total_squared_error = products.split([n, n, n, 1])
        covariance_SV, prediction_square_SV, target_square_SV = (
            each.view(shape) for each in of_squares
        )
        varies_SV = (
            (prediction_square_SV > _rounding_of_squares(prediction_mean_SV, rows_SV))
            & (target_square_SV > _rounding_of_squares(target_mean_SV, rows_SV))
        ) | ~torch.isfinite(covariance_SV)
        # Constant voxels leave the graph before the root is taken: its slope at 0 is infinite.
        one = torch.ones_like(covariance_SV)
        norms_SV = (
            torch.where(varies_SV, prediction_square_SV, one).sqrt()
            * torch.where(varies_SV, target_square_SV, one).sqrt()
        )
        pearson_SV = torch.where(varies_SV, covariance_SV, 0.0) / norms_SV
        return pearson_SV, rows_SV, batch_rows.squeeze(0), total_squared_error.squeeze(0).detach()

    def _rows_of_subjects(
        self, subject_B: Tensor | None, device: torch.device
    ) -> list[Tensor | None]:
        """Return which rows are each subject's; None: all."""
        if self._n_subjects == 1 or subject_B is None:
            return [None]
        each = range(self._n_subjects)
        return [(subject_B == index).nonzero().flatten().to(device) for index in each]


def _rounding_of_squares(mean_SV: Tensor, rows_SV: Tensor) -> Tensor:
    """Sum of squared deviations up to which a voxel counts as constant."""
    return rows_SV * (CONSTANT_STD * (1 + mean_SV.abs())).square()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up `values` over the ranks; without a process group, return them."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


class _SumOverRanks(torch.autograd.Function):
    """`sum_over_ranks` with a gradient, for a result that each rank uses in the same way.

    Every rank's objective then depends on the sum alike, so that the gradient of all objectives
    together is this rank's own times the number of ranks, and needs no communication.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return sum_over_ranks(values) if world_size() > 1 else values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * world_size()
