"""A stack as a predictor: each member sees its own part of the window, and is weighed unit by unit.

A member that has a longer lag than another is given earlier TRs::

    stimulus TR        s-C ............. s-1 |  s ... s+W-1          C, W of the stack; lag 0
    lag 0, context 8   [--------------------- C + W -------]
    lag 3, context 0            [- W -]                              s-3 ... s+W-4

Shapes: B windows, C TRs of context, W TRs of a window, V units, M members.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.kinds import read_settings
from giblet_ray.models.config import ModelSettings
from giblet_ray.models.fitted import FittedPredictor, TrainingTrs
from giblet_ray.models.predictor import GROUP, Shapes, build_predictor
from giblet_ray.models.stack.config import Member, StackConfig
from giblet_ray.progress import Show


class Stack(FittedPredictor):
    """A convex combination of models' predictions, with weights for each unit.

    Attributes
    ----------
    members : nn.ModuleList
        The models.
    weights : nn.ParameterList
        (V, M) of each subject; one, where all share them.
    """

    Settings = StackConfig

    def __init__(self, settings: StackConfig, shapes: Shapes, packages: Iterable[str] = ()) -> None:
        super().__init__(settings, shapes)
        self._members, self._lag_trs = tuple(settings.members.values()), settings.lag_trs
        self._names = tuple(settings.members)
        self._alone: int | None = None
        units = list(shapes.units.values())
        self._fits = list(range(len(units)))
        self.tells_subjects_apart = settings.subjects == "each"
        if not self.tells_subjects_apart:
            self._fits, units = [0] * len(units), [shapes.shared_units]
        self.members = nn.ModuleList(
            build_predictor(
                read_settings(ModelSettings, each.model, packages, f"model.kind of member {name}"),
                replace(shapes, values=each.values, encoders=each.encoders),
                packages,
            )
            for name, each in settings.members.items()
        )
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(n, len(self._members)), requires_grad=False) for n in units
        )
        members: Any = self.members
        self.may_lack = frozenset(self.parts).difference(
            *(set(each.parts) - each.may_lack for each in members)
        )
        self.without_group_head = tuple(
            name
            for name, member in zip(self._names, self.members, strict=True)
            if member.tells_subjects_apart and not member.has_group_head
        )
        self.has_group_head = self.tells_subjects_apart and not self.without_group_head

    @classmethod
    def build(cls, settings: Any, shapes: Shapes, packages: Iterable[str]) -> Self:
        """See :meth:`FittedPredictor.build`: members may be of the user's own code."""
        return cls(settings, shapes, packages)

    def check_parts(self, given: Collection[str]) -> None:
        """See :meth:`Predictor.check_parts`: every member predicts from what it reads of them."""
        members: Any = self.members
        for name, member in zip(self._names, members, strict=True):
            try:
                member.check_parts(given)
            except InputError as error:
                raise InputError(f"member {name}: {error}") from error

    def forward(
        self,
        values: Mapping[str, Tensor],
        exists: Tensor,
        subject: Tensor,
        lacking: Mapping[str, Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """See :meth:`Predictor.forward`."""
        given = values, exists, subject, lacking or {}
        if self._alone is not None:
            return self._of_member(self._alone, *given)
        stacked: dict[int, Tensor] = {}
        for index in range(len(self._members)):
            for of, bold_BWV in self._of_member(index, *given).items():
                weighed_BWV = bold_BWV.float() * self.weights_of(of)[:, index]
                stacked[of] = stacked[of] + weighed_BWV if of in stacked else weighed_BWV
        return stacked

    def weights_of(self, subject: int) -> Tensor:
        """Return the weights (V, M) of a subject; those of the group are the mean of all's."""
        if subject == GROUP and self.tells_subjects_apart:
            return torch.stack([*self.weights]).mean(0)
        return self.weights[self._fits[subject]]

    def _of_member(
        self,
        index: int,
        values: Mapping[str, Tensor],
        exists: Tensor,
        subject: Tensor,
        lacking: Mapping[str, Tensor],
    ) -> dict[int, Tensor]:
        """Return what a member predicts of the TRs that it sees."""
        member: Member = self._members[index]
        later = member.lag_trs - self._lag_trs
        seen = slice(self.context_trs - later - member.context_trs, exists.shape[1] - later)
        own = {part: values[part][:, seen] for part in member.encoders if part in values}
        for part, n in member.leading.items():
            if part in own:
                own[part] = own[part].narrow(2, 0, n)
        lacks = {part: of for part, of in lacking.items() if part in member.encoders}
        predicted: dict[int, Tensor] = self.members[index](
            own, exists[:, seen], subject, **({"lacking": lacks} if lacks else {})
        )
        return predicted

    def keep_member(self, index: int) -> None:
        """Predict as one member alone does from now on."""
        self._alone = index

    def fit(self, training: TrainingTrs, show: Show) -> None:
        """Refuse: its members are trained already.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "--model.kind stack: is made of finished runs, by jobs/promote.py --stack RUN RUN ..."
        )
