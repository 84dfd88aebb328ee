"""The loss of a global batch, the same for any number of ranks that share it.

Shapes: B rows of this rank, N rows of all ranks together, V voxels, S subjects whose voxels are
not the same ones (1: all share them). A voxel may be valid in the rows of some subjects and not in
those of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.evaluation.unit_scores import HeldOutScores

# A voxel counts as constant over a batch where its standard deviation is below this part of
# (1 + |mean|): what is left of a constant after float32 rounding, in units of z-scored BOLD.
CONSTANT_STD = 32 * torch.finfo(torch.float32).eps


class LossTerms(NamedTuple):
    """What `EncodingLoss` returns: scalar float32 tensors."""

    objective: Tensor
    """This rank's share, to call `backward()` on, once. Gradients averaged over the ranks, as
    DistributedDataParallel does, are those of `loss`; with `units_apart`, they are added up."""
    loss: Tensor
    """mse + weight * correlation_loss; this and the following are the same on every rank and carry
    no gradient."""
    mse: Tensor | None
    """Mean over rows of the mean squared error over a row's valid voxels; None of a loss of the
    user's own."""
    correlation_loss: Tensor | None
    """Mean of (1 - Pearson r) over voxels that are valid in some row, then over subjects; None
    where its weight is 0."""

    @property
    def logged(self) -> dict[str, Tensor]:
        """What is recorded, by name."""
        terms = {"loss": self.loss, "mse": self.mse, "correlation_loss": self.correlation_loss}
        return {name: term for name, term in terms.items() if term is not None}


class _Correlation(NamedTuple):
    """Pearson's r over the rows of all ranks, and its slopes."""

    pearson_SV: Tensor
    rows_SV: Tensor
    """r per subject and voxel, and the rows that it is valid in."""
    batch_rows: Tensor
    squared_error: Tensor
    """Rows, and the sum of the squared errors' means."""
    by_target_SV: Tensor
    by_prediction_SV: Tensor
    """What r grows by with a prediction, per unit of the target and of the prediction."""
    of_its_row: Callable[[Tensor], Tensor]
    """From (S, V) to what each row has, (B, V) or what broadcasts to it."""


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
        with torch.no_grad():
            terms, gradient_BV = self._terms(
                prediction_BV, target_BV, valid_BV, global_rows, subject_B, n_valid_B
            )
        objective = _KnownGradient.apply(prediction_BV, terms.objective, gradient_BV)
        return terms._replace(objective=objective)

    def _terms(
        self,
        prediction_BV: Tensor,
        target_BV: Tensor,
        valid_BV: Tensor,
        global_rows: int,
        subject_B: Tensor | None,
        n_valid_B: Tensor | None,
    ) -> tuple[LossTerms, Tensor]:
        """Return the terms, and the objective's gradient (B, V)."""
        # Voxels that are not valid leave here, since a NaN times 0 would still be one.
        prediction_BV = torch.where(valid_BV, prediction_BV.float(), 0.0)
        target_BV = torch.where(valid_BV, target_BV.float(), 0.0)
        # Ranks' gradients of what they share will be averaged, where these have to be added.
        scale = 1 if self._units_apart else world_size()
        n_valid_B = valid_BV.sum(dim=1) if n_valid_B is None else n_valid_B
        error_BV = prediction_BV - target_BV
        squared_error = (error_BV.square().sum(dim=1) / n_valid_B).sum() / global_rows
        gradient_BV = error_BV.mul_((2 * scale / (n_valid_B * global_rows))[:, None])
        objective = scale * squared_error
        if self.correlation_weight == 0:
            mse = sum_over_ranks(squared_error)
            return LossTerms(objective, mse, mse, None), gradient_BV

        found = self._correlate(prediction_BV, target_BV, valid_BV, squared_error, subject_B)
        counts_SV = found.rows_SV > 0
        n_S = counts_SV.sum(dim=1)
        n_S = sum_over_ranks(n_S) if self._units_apart else n_S
        of_each_SV = counts_SV / (n_S.clamp(min=1)[:, None] * (n_S > 0).sum())
        of_each_SV *= found.batch_rows / global_rows
        correlation_loss = torch.where(counts_SV, of_each_SV * (1 - found.pearson_SV), 0.0).sum()
        objective = objective + self.correlation_weight * correlation_loss
        slope_SV = -self.correlation_weight * scale * of_each_SV
        # Of r: t' / (|p'| |t'|) - r p' / |p'|^2, of what is left of both without their means.
        gradient_BV.addcmul_(target_BV, found.of_its_row(slope_SV * found.by_target_SV))
        gradient_BV.addcmul_(prediction_BV, found.of_its_row(slope_SV * found.by_prediction_SV))
        mse = found.squared_error
        if self._units_apart:
            mse, correlation_loss = sum_over_ranks(torch.stack([mse, correlation_loss])).unbind()
        loss = mse + self.correlation_weight * correlation_loss
        return LossTerms(objective, loss, mse, correlation_loss), gradient_BV

    def of_rows(self, prediction_BV: Tensor, target_BV: Tensor, valid_BV: Tensor) -> Tensor:
        """Return nothing of held-out rows: their loss follows from their scores."""
        return prediction_BV.new_zeros(())

    def held_out(self, scores: HeldOutScores, mean_of_rows: float) -> float:
        """Return the loss of all held-out rows together."""
        summary = scores.summary()
        return summary["mse"] + self.correlation_weight * (1 - summary["pearson_mean"])

    def _correlate(
        self,
        prediction_BV: Tensor,
        target_BV: Tensor,
        valid_BV: Tensor,
        squared_error: Tensor,
        subject_B: Tensor | None,
    ) -> _Correlation:
        """Correlate the rows of all ranks; predictions and targets lose their means in place."""
        shape = self._n_subjects, prediction_BV.shape[1]
        n = shape[0] * shape[1]
        rows_of = self._rows_of_subjects(subject_B, prediction_BV.device)
        # Of voxels that are valid in all rows, or in none, nothing has to be counted or masked.
        is_alike = len(valid_BV) > 0 and valid_BV.stride(0) == 0

        def summed(rows_BV: Tensor) -> Tensor:
            of_subjects = [(rows_BV if at is None else rows_BV[at]).sum(dim=0) for at in rows_of]
            return torch.cat(of_subjects)

        def counted() -> Tensor:
            if not is_alike:
                return summed(valid_BV.float())
            n_rows = [len(valid_BV) if at is None else len(at) for at in rows_of]
            return torch.cat([n_of * valid_BV[0].float() for n_of in n_rows])

        def of_its_row(values_SV: Tensor) -> Tensor:
            if subject_B is None or len(rows_of) == 1:
                return values_SV
            return values_SV[subject_B.to(values_SV.device, non_blocking=True)]

        n_rows = prediction_BV.new_full((1,), len(valid_BV))
        every = torch.cat([counted(), summed(prediction_BV), summed(target_BV), n_rows])
        every = every if self._units_apart else sum_over_ranks(every)
        *of_means, batch_rows = every.split([n, n, n, 1])
        rows_SV, prediction_mean_SV, target_mean_SV = (each.view(shape) for each in of_means)
        for rows_BV, mean_SV in ((prediction_BV, prediction_mean_SV), (target_BV, target_mean_SV)):
            rows_BV -= of_its_row(mean_SV.div_(rows_SV.clamp(min=1)))
            if not is_alike:
                rows_BV *= valid_BV
        products = torch.cat(
            [
                summed(prediction_BV * target_BV),
                summed(prediction_BV.square()),
                summed(target_BV.square()),
                squared_error.reshape(1),
            ]
        )
        products = products if self._units_apart else sum_over_ranks(products)
        *of_squares, squared_error = products.split([n, n, n, 1])
        covariance_SV, prediction_square_SV, target_square_SV = (
            each.view(shape) for each in of_squares
        )
        varies_SV = (
            (prediction_square_SV > _rounding_of_squares(prediction_mean_SV, rows_SV))
            & (target_square_SV > _rounding_of_squares(target_mean_SV, rows_SV))
        ) | ~torch.isfinite(covariance_SV)
        by_target_SV = prediction_square_SV.sqrt().mul_(target_square_SV.sqrt()).reciprocal_()
        by_target_SV = torch.where(varies_SV, by_target_SV, 0.0)
        pearson_SV = torch.where(varies_SV, covariance_SV * by_target_SV, 0.0)
        by_prediction_SV = torch.where(varies_SV, -pearson_SV / prediction_square_SV, 0.0)
        return _Correlation(
            pearson_SV,
            rows_SV,
            batch_rows.squeeze(0),
            squared_error.squeeze(0),
            by_target_SV,
            by_prediction_SV,
            of_its_row,
        )

    def _rows_of_subjects(
        self, subject_B: Tensor | None, device: torch.device
    ) -> list[Tensor | None]:
        """Return which rows are each subject's; None: all."""
        if self._n_subjects == 1 or subject_B is None:
            return [None]
        each = [(subject_B == index).nonzero().flatten() for index in range(self._n_subjects)]
        return [rows.to(device, non_blocking=True) for rows in each]


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


class _KnownGradient(torch.autograd.Function):
    """A number whose gradient has been found with it, in fewer passes over rows and voxels."""

    @staticmethod
    def forward(ctx: Any, prediction_BV: Tensor, value: Tensor, gradient_BV: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_BV)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (gradient_BV,) = ctx.saved_tensors
        return gradient_BV.mul_(slope), None, None
