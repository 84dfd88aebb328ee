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

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models._layers import hidden_layer
from giblet_ray.models.linear import Linear
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.multimodal.ragged import existing, spread
from giblet_ray.models.predictor import GROUP, Shapes, by_subject, in_batch_order
from giblet_ray.models.shards import UnitShards

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
        before = [Linear(n_features, width, bias=False)]
    last = Linear(width, n_units) if settings.head == "full" else _nothing(width, n_units)
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
    shards : UnitShards or None
        Which units this rank has, where they are shared out over the workers.

    Raises
    ------
    InputError
        If subjects differ in units, and share a head or train one for nobody in particular.
    """

    def __init__(self, settings: MultimodalConfig, n_features: int, shapes: Shapes) -> None:
        super().__init__()
        self._subjects, self._units = shapes.subjects, list(shapes.units.values())
        self.shards: UnitShards | None = None
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

    @property
    def units(self) -> dict[str, int]:
        """Units of all ranks that each parameter of the last layers is of, by its name."""
        return {
            f"{name}.{parameter}": n_units
            for name, (_, n_units) in self._last_layers().items()
            for parameter in ("weight", "bias")
        }

    def share_out(self, shards: UnitShards) -> None:
        """Keep this rank's units alone: from now on all ranks predict together."""
        self.shards = shards
        for layer, n_units in self._last_layers().values():
            start, stop = shards.bounds(n_units)
            layer.out_features = stop - start
            for name, parameter in [*layer.named_parameters()]:
                own = parameter.detach()[start:stop].clone()
                setattr(layer, name, nn.Parameter(own, parameter.requires_grad))

    def _last_layers(self) -> dict[str, tuple[nn.Linear, int]]:
        """Return the layers that give units, and how many all ranks have of them, by name."""
        heads: dict[str, tuple[Any, int]] = {}
        if self.group is not None:
            heads["group"] = self.group, self._units[0]
        for index, own in enumerate(self.own):
            heads[f"own.{index}"] = own, self._units[index]
        layers: dict[str, tuple[nn.Linear, int]] = {}
        for name, (head, n_units) in heads.items():
            if isinstance(head, nn.Sequential):
                last: Any = head[-1]
                layers[f"{name}.{len(head) - 1}"] = last, n_units
            else:
                layers[name] = head, n_units
        return layers

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
        if self.group is None and bool((subject == GROUP).any()):
            raise InputError(
                f"subject: the model has heads of {', '.join(self._subjects)}, whose units "
                "differ, and none for nobody in particular"
            )
        hidden_BWH, kept_B = self._hidden(features_BWF, there_BW, subject), self._kept(subject)
        if self.shards is None:
            return self._read_out(hidden_BWH, there_BW, subject, kept_B)
        return self._read_out_together(self.shards, hidden_BWH, there_BW, subject, kept_B)

    def _hidden(self, features_BWF: Tensor, there_BW: Tensor | None, subject: Tensor) -> Tensor:
        """Return what last layers are given, (B, W, H); 0 where there is no row."""
        if self.group is not None:
            hidden_NH = self.group[:-1](existing(features_BWF, there_BW))
            return spread(hidden_NH, features_BWF.shape[:2], there_BW)
        hidden: dict[int, Tensor] = {}
        for index, windows, there in _windows_of(subject, there_BW):
            head: Any = self.own[index]
            rows, before = features_BWF[windows], head[:-1]
            hidden[index] = spread(before(existing(rows, there)), rows.shape[:2], there)
        if not hidden:
            (layer, _), *_ = self._last_layers().values()
            return features_BWF.new_zeros(*features_BWF.shape[:2], layer.in_features)
        return in_batch_order(hidden, subject)

    def _read_out(
        self, hidden_BWH: Tensor, there_BW: Tensor | None, subject: Tensor, kept_B: Tensor
    ) -> dict[int, Tensor]:
        """Return what last layers make of (B, W, H); of subjects that are kept, their own adds."""
        shape, predicted = hidden_BWH.shape[:2], {}
        if self.group is not None:
            group_NV = self.group[-1](existing(hidden_BWH, there_BW))
            predicted = by_subject(spread(group_NV, shape, there_BW), subject)
        for index, windows, there in _windows_of(subject, there_BW) if self.own else ():
            if index == GROUP:
                continue
            rows = hidden_BWH[windows]
            head: Any = self.own[index]
            last = head[-1] if self.group is None else head
            own = spread(last(existing(rows, there)), rows.shape[:2], there)
            if self.group is not None:
                kept = kept_B[windows, None, None].to(own.device, non_blocking=True)
                own = predicted[index] + own * kept
            predicted[index] = own
        return predicted

    def _read_out_together(
        self,
        shards: UnitShards,
        hidden_BWH: Tensor,
        there_BW: Tensor | None,
        subject: Tensor,
        kept_B: Tensor,
    ) -> dict[int, Tensor]:
        """Return what last layers make of all ranks' windows: while training, of all of them this
        rank's units, else of this rank's all units."""
        sizes = shards.sizes(hidden_BWH.shape, there_BW is None)
        if not sum(sizes.windows):
            return {}
        told_N2 = shards.told(torch.stack([subject, kept_B.long()], dim=1), sizes)
        subject_N, kept_N = told_N2[:, 0], told_N2[:, 1].float()
        there_NW = None
        if not sizes.all_there:
            there = torch.ones(hidden_BWH.shape[:2]) if there_BW is None else there_BW.float()
            there_NW = shards.gather(there.to(hidden_BWH)[..., None], sizes)[..., 0] > 0
        device = hidden_BWH.device.type
        if torch.is_autocast_enabled(device):  # what the last layers would do: half is sent
            hidden_BWH = hidden_BWH.to(torch.get_autocast_dtype(device))
        hidden_NWH = shards.gather(hidden_BWH, sizes)
        own = self._read_out(hidden_NWH, there_NW, subject_N, kept_N)
        if self.training:
            return own
        own_NWV = in_batch_order(own, subject_N, shards.own())
        bold_BWV = shards.to_rows(own_NWV, subject, sizes)[:, : hidden_BWH.shape[1]]
        return {
            index: bold_BWV[windows, :, : self._units[index]]
            for index, windows, _ in _windows_of(subject, None)
        }

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


def _windows_of(
    subject: Tensor, there_BW: Tensor | None
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield each subject, its windows, and which of their rows exist."""
    for index in subject.unique().tolist():
        windows = (subject == index).nonzero().flatten()
        yield index, windows, None if there_BW is None else there_BW[windows]


def _nothing(n_inputs: int, n_units: int) -> nn.Linear:
    """Return a linear layer that gives 0 until it has learned."""
    layer = Linear(n_inputs, n_units)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
