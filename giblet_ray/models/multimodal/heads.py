"""From what memory gives to the units: one head for all subjects, or one for each.

::

    heads shared                       features -> group -> bold of any subject
    heads subject, units alike         features -> group -> bold of nobody in particular
                                       features -> group + own deviation -> bold of a subject
    heads subject, units that differ   features -> own head -> bold of a subject

Shapes: B windows of W TRs, N rows that exist, F features, H numbers before a head's last layer,
V units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models._layers import hidden_layer
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.ragged import existing, spread
from giblet_ray.models.predictor import GROUP, Shapes, by_subject

FULL_DROPOUT = 0.3


def build_head(settings: MultimodalConfig, n_features: int, n_units: int) -> nn.Sequential:
    """Return a head, (N, F) -> (N, V), whose last layer is linear; one that is linear predicts 0 at
    first, so that there is nothing to unlearn."""
    before: list[nn.Module] = []
    width = n_features
    if settings.head == "full":
        width = settings.head_dim
        rate = FULL_DROPOUT if settings.dropout is None else settings.dropout
        before = [*hidden_layer(n_features, width, rate, settings.norm)]
    elif settings.head == "low_rank":
        width = settings.head_rank
        before = [nn.Linear(n_features, width, bias=False)]
    last = nn.Linear(width, n_units) if settings.head == "full" else _nothing(width, n_units)
    return nn.Sequential(*before, last)


class Heads(nn.Module):
    """The heads of a model.

    Parameters
    ----------
    settings : MultimodalConfig
        Of the model.
    n_features : int
        F.
    shapes : Shapes
        Whose units are predicted.

    Attributes
    ----------
    group : nn.Sequential or None
        The head that subjects share; None where their units differ.
    own : nn.ModuleList
        Of each subject: what its units deviate by, linear in what the group's last layer is given
        and 0 at first; or its head. Empty where all subjects share one, or there is one subject.

    Raises
    ------
    InputError
        If subjects differ in units, and share a head or train one for nobody in particular.
    """

    def __init__(self, settings: MultimodalConfig, n_features: int, shapes: Shapes) -> None:
        super().__init__()
        self._subjects, self._units = shapes.subjects, list(shapes.units.values())
        self._subject_dropout = settings.subject_dropout
        per_subject = settings.heads == "subject"
        self.group: nn.Sequential | None = None
        alike = shapes.units_are_shared and len(set(self._units)) == 1
        if not per_subject or settings.subject_dropout or alike:
            self.group = build_head(settings, n_features, shapes.shared_units)
        self.own = nn.ModuleList()
        alone = self.group is not None and len(self._units) == 1  # who is the group
        for n_units in self._units if per_subject and not alone else []:
            if self.group is None:
                self.own.append(build_head(settings, n_features, n_units))
            else:
                width = self.group[-1].get_parameter("weight").shape[1]
                self.own.append(_nothing(width, n_units))

    def forward(
        self, features_BWF: Tensor, there_BW: Tensor | None, subject: Tensor
    ) -> dict[int, Tensor]:
        """Return BOLD of each subject, as :meth:`Predictor.forward` does.

        Parameters
        ----------
        features_BWF : Tensor
            0 where there is no row.
        there_BW : Tensor or None
            bool, which rows exist; None: all.
        subject : Tensor
            (B,) int64 on the CPU; -1 is nobody in particular.

        Raises
        ------
        InputError
            For nobody in particular, where units differ.
        """
        shape = features_BWF.shape[:2]
        if self.group is not None:
            hidden_NH = self.group[:-1](existing(features_BWF, there_BW))
            group = by_subject(spread(self.group[-1](hidden_NH), shape, there_BW), subject)
            if not self.own:
                return group
            features_BWF = spread(hidden_NH, shape, there_BW)
            kept_B = self._kept(subject)
        predicted = {}
        for index in subject.unique().tolist():
            windows = (subject == index).nonzero().flatten()
            rows, there = features_BWF[windows], None if there_BW is None else there_BW[windows]
            if index == GROUP and self.group is None:
                raise InputError(
                    f"subject: the model has heads of {', '.join(self._subjects)}, whose units "
                    "differ, and none for nobody in particular"
                )
            if index == GROUP:
                predicted[index] = group[index]
                continue
            own = spread(self.own[index](existing(rows, there)), rows.shape[:2], there)
            if self.group is not None:
                own = group[index] + own * kept_B[windows, None, None].to(own.device)
            predicted[index] = own
        return predicted

    def nothing(self, window_BW: Tensor, subject: Tensor) -> dict[int, Tensor]:
        """Return zeros, of windows none of whose rows exist."""
        shape, device = window_BW.shape, window_BW.device
        sizes = {index: int((subject == index).sum()) for index in subject.unique().tolist()}
        return {
            index: torch.zeros(n, shape[1], self._units[max(index, 0)], device=device)
            for index, n in sizes.items()
        }

    def _kept(self, subject: Tensor) -> Tensor:
        """Return whether the subject of each window counts, (B,): not in part of the training."""
        if not (self.training and self._subject_dropout):
            return torch.ones(len(subject))
        return (torch.rand(len(subject), device="cpu") >= self._subject_dropout).float()


def _nothing(n_inputs: int, n_units: int) -> nn.Linear:
    """Return a linear layer that gives 0 until it has learned."""
    layer = nn.Linear(n_inputs, n_units)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
