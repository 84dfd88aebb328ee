"""Losses: the one that is built in, and those of a user's own.

Shapes: N rows of this rank, V units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.plugins import load_object
from giblet_ray.training.config import LossConfig, LossSettings
from giblet_ray.training.encoding_loss import EncodingLoss, LossTerms, sum_over_ranks


class RankLoss(Protocol):
    """A loss as all ranks compute it together."""

    def __call__(
        self,
        prediction_NV: Tensor,
        target_NV: Tensor,
        valid_NV: Tensor,
        global_rows: int,
        subject_N: Tensor | None = None,
        n_valid_N: Tensor | None = None,
    ) -> LossTerms:
        """Compute the loss of this rank's rows and of the global batch that they are part of.

        What is valid is that of each row's subject, (N, V) bool; whose it is, (N,) int64, matters
        where each has a head; how many units of all ranks count in each row, (N,).
        """

    def of_rows(self, prediction_NV: Tensor, target_NV: Tensor, valid_NV: Tensor) -> Tensor:
        """Return what held-out rows add to a sum over all batches and ranks, a scalar."""

    def held_out(self, scores: HeldOutScores, mean_of_rows: float) -> float:
        """Return the loss of all held-out rows, from their scores or that sum over their number."""


class Loss(nn.Module, ABC):
    """A loss of a user's own is a subclass in a file of their own.

    It is computed on the rows that a rank has of a batch, and averaged over the ranks, and the
    parts that are accumulated, in proportion to their rows.

    Attributes
    ----------
    Settings : type of LossSettings
        Its settings; ``--loss.NAME``.

    Parameters
    ----------
    settings : Settings
        Validated.
    """

    Settings: ClassVar[type[LossSettings]] = LossSettings

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(self, prediction_NV: Tensor, target_NV: Tensor, mask_NV: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        prediction_NV, target_NV : Tensor
            (N, V) z-scored BOLD, float32; 0 in both where it does not count.
        mask_NV : Tensor
            (N, V) bool, what counts.

        Returns
        -------
        Tensor
            Scalar, a mean over rows.
        """


class OwnLoss(nn.Module):
    """A :class:`Loss` as all ranks compute it together: a :class:`RankLoss`."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def forward(
        self,
        prediction_NV: Tensor,
        target_NV: Tensor,
        valid_NV: Tensor,
        global_rows: int,
        subject_N: Tensor | None = None,
        n_valid_N: Tensor | None = None,
    ) -> LossTerms:
        """See :class:`RankLoss`."""
        share = self.of_rows(prediction_NV, target_NV, valid_NV) / global_rows
        # Ranks' gradients will be averaged, where these have to be added.
        return LossTerms(world_size() * share, sum_over_ranks(share.detach()), None, None)

    def of_rows(self, prediction_NV: Tensor, target_NV: Tensor, valid_NV: Tensor) -> Tensor:
        """Return the loss of some rows, times their number."""
        # Units that are not valid leave here, since a NaN times 0 would still be one.
        prediction_NV = torch.where(valid_NV, prediction_NV.float(), 0.0)
        target_NV = torch.where(valid_NV, target_NV.float(), 0.0)
        rows = len(prediction_NV)
        if rows == 0:
            return prediction_NV.sum()
        loss = self._loss(prediction_NV, target_NV, valid_NV)
        if loss.shape != ():
            raise InputError(
                f"--loss.kind {self._loss.settings.kind}: returned a shape of "
                f"{tuple(loss.shape)}, where a scalar is expected"
            )
        return loss * rows

    def held_out(self, scores: HeldOutScores, mean_of_rows: float) -> float:
        """Return the mean over batches."""
        return mean_of_rows


def build_loss(
    settings: LossSettings, packages: Iterable[str], n_subjects: int = 1, units_apart: bool = False
) -> Any:
    """Return the :class:`RankLoss` that settings describe.

    Parameters
    ----------
    settings : LossSettings
        Of the loss's own class.
    packages : iterable of str
        Packages that may be imported.
    n_subjects : int
        Subjects whose units are not the same ones; 1 where they share a head.
    units_apart : bool
        Whether workers share out the units; a loss of a user's own needs all of a row's.

    Raises
    ------
    InputError
        If there is no such loss, or its package may not be or cannot be imported.
    """
    if isinstance(settings, LossConfig):
        return EncodingLoss(settings.correlation_weight, n_subjects, units_apart)
    loss = load_object(settings.kind, packages, "--loss.kind")
    if not (isinstance(loss, type) and issubclass(loss, Loss)):
        raise InputError(f"--loss.kind {settings.kind}: is no loss; a subclass of Loss is accepted")
    return OwnLoss(loss(settings))
