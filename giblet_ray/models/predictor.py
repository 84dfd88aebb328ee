"""What a model is to all that trains, judges and uses one.

A model sees windows of a stimulus, with as many TRs before them as its settings ask for, and
predicts the BOLD of the window's own TRs, of each subject apart::

    stimulus TR       s-C ...  s-1 |  s  s+1 ...  s+W-1
    values, exists    [------------ C + W -------------]      exists: neither before nor after it
    prediction                     [------- W ---------]      of BOLD lag TRs later

Shapes: B windows, C TRs of context, W TRs of a window, V units, B_s windows of subject s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models.config import ModelSettings
from giblet_ray.parts.reading import find_reading
from giblet_ray.parts.value import ValueType
from giblet_ray.plugins import load_object, package_of

if TYPE_CHECKING:
    from giblet_ray.models.fitted import TrainingTrs
    from giblet_ray.models.shards import UnitShards

_BUILT_IN = {
    "multimodal": "giblet_ray.models.multimodal.model:Multimodal",
    "ridge": "giblet_ray.models.ridge.model:Ridge",
    "stack": "giblet_ray.models.stack.model:Stack",
}

GROUP = -1
"""Index of nobody in particular, for models that have a head for the group."""


@dataclass(frozen=True)
class Shapes:
    """What a model is built for.

    Attributes
    ----------
    values : dict of str to ValueType
        What one row holds on disk, of each part and of ``bold``.
    encoders : dict of str to str
        Kind of encoder that reads each part, in the order of the parts; see
        :mod:`giblet_ray.parts.reading`.
    units : dict of str to int
        How many units each subject has; their order is that of the subjects' indices.
    tr_seconds : float
        Duration of a TR (s).
    units_are_shared : bool
        Whether a unit is the same one in all subjects.
    lacking : dict of str to sequence of str
        Stimuli that have no rows of a part, by the parts that some lack.
    lag_trs : int
        What it sees lies so many TRs before its BOLD (``data.lag_seconds``).
    """

    values: Mapping[str, ValueType]
    encoders: Mapping[str, str]
    units: Mapping[str, int]
    tr_seconds: float
    units_are_shared: bool = True
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lag_trs: int = 0

    @classmethod
    def of_record(cls, dataset: Any, lag_trs: int = 0) -> Self:
        """Return the shapes that a checkpoint's record tells of its data set."""
        return cls(
            dataset.values,
            dataset.encoders,
            dataset.subjects,
            dataset.tr_seconds,
            dataset.units_are_shared,
            dataset.lacking,
            lag_trs,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that the model reads."""
        return tuple(self.encoders)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects by their index."""
        return tuple(self.units)

    @property
    def shared_units(self) -> int:
        """V, of a model that predicts the same for all subjects.

        Raises
        ------
        InputError
            If their numbers differ, or they are not the same ones.
        """
        if not self.units_are_shared and len(set(self.units.values())) == 1:
            raise InputError("the subjects' units are as many, and not the same ones: train each")
        numbers = set(self.units.values())
        if len(numbers) > 1:
            has = ", ".join(f"{subject}: {n:,}" for subject, n in self.units.items())
            raise InputError(f"the subjects differ in their number of units ({has}): train each")
        return numbers.pop()

    def inputs(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what a model is given, from rows as they lie on disk.

        Parameters
        ----------
        values : mapping of str to Tensor
            (B, C + W, *shape) of each part that is there; others are left out.

        Returns
        -------
        dict of str to Tensor
            The same in the number format of a model: pictures from -0.5 to 0.5, codes as int64,
            all else as float32.
        """
        return {
            part: find_reading(self.encoders[part], part).to_input(values[part])
            for part in self.parts
            if part in values
        }


class FixedVectors(Protocol):
    """Makes vectors of a part's rows, and has nothing that a step of a training changes."""

    n_features: int
    """F."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Return vectors (..., F), float32, of rows (..., *shape) as :meth:`Shapes.inputs` gives
        them; those of TRs that do not exist are given as 0 later."""


class Predictor(nn.Module, ABC):
    """A model. One of your own is a subclass in a file of your own.

    Attributes
    ----------
    Settings : type of ModelSettings
        Its settings; ``--model.NAME``.
    parts : tuple of str
        Parts of the data set that it reads.
    context_trs : int
        C, TRs of stimulus before a window that it sees.
    may_lack : frozenset of str
        Parts that it predicts without, as it did in training.
    tells_subjects_apart : bool
        Whether its prediction depends on the subject.
    has_group_head : bool
        Whether it predicts for :data:`GROUP` too, the units that its subjects share.
    without_group_head : tuple of str
        Names of the models that it is made of, if any, for want of whose group head it has none.
    head_modules : tuple of str
        Names of the submodules that are of subjects' units; all else is its trunk, which another
        person's model can begin with.
    given_vectors : frozenset of str
        Parts of which it is given what its :attr:`fixed_vectors` make of them, not rows.

    Parameters
    ----------
    settings : Settings
        Validated.
    shapes : Shapes
        What it is built for.
    """

    Settings: ClassVar[type[ModelSettings]] = ModelSettings
    may_lack: frozenset[str] = frozenset()
    tells_subjects_apart: bool = False
    has_group_head: bool = False
    without_group_head: tuple[str, ...] = ()
    head_modules: tuple[str, ...] = ()
    given_vectors: frozenset[str] = frozenset()

    def __init__(self, settings: Any, shapes: Shapes) -> None:
        super().__init__()
        self.parts = shapes.parts
        self.context_trs = settings.context_trs(shapes.tr_seconds)

    @classmethod
    def build(cls, settings: Any, shapes: Shapes, packages: Iterable[str]) -> Self:
        """Make one; `packages` are those that may be imported, for models that hold others."""
        return cls(settings, shapes)

    def is_of_heads(self, name: str) -> bool:
        """Whether a parameter or buffer of this name is of :attr:`head_modules`."""
        return any(f"{name}.".startswith(f"{head}.") for head in self.head_modules)

    @property
    def fixed_vectors(self) -> Mapping[str, FixedVectors]:
        """What makes vectors of parts before anything that it learns, by part, once it is prepared:
        a training makes those of each row once, not in each step. By default none."""
        return {}

    @property
    def head_units(self) -> dict[str, int]:
        """Units that the first axis of a parameter is of, by its name: of those whose rows need
        nobody else's, which the workers can share out; by default none."""
        return {}

    def share_out_units(self, shards: UnitShards) -> None:
        """Keep this rank's units of :attr:`head_units`, in place of all.

        From then on all ranks predict together: while training, a prediction is of the windows of
        all ranks, those of rank 0 first, and of this rank's units; else as before.

        Parameters
        ----------
        shards : UnitShards
            Which units are whose.
        """
        raise InputError(f"{type(self).__name__}: its head cannot be shared out over the workers")

    def take_part(self) -> None:
        """Do what other ranks need of this one to predict, without a window of its own."""

    def prepare(self, training: TrainingTrs) -> None:
        """Take what is found before a run's first step from its training TRs, and stays.

        Rank 0 calls it on a new model, and never again: it is part of the weights that other ranks
        and checkpoints have. By default there is nothing to find.

        Parameters
        ----------
        training : TrainingTrs
            What is learned from.

        Raises
        ------
        InputError
            If the data set lacks what it takes.
        """

    def check_parts(self, given: Collection[str]) -> None:
        """Make sure that it predicts from these parts.

        Raises
        ------
        InputError
            If one is missing that it does not do without, or all are.
        """
        absent = [part for part in self.parts if part not in given]
        needed = [part for part in absent if part not in self.may_lack]
        if needed or (absent and len(absent) == len(self.parts)):
            accepted = "at least one of them is needed"
            if needed:
                accepted = (
                    "only one with --model.modality_dropout, or that was trained on films without "
                    "it, predicts without one of them"
                )
            raise InputError(
                f"{', '.join(needed or absent)}: missing; the model reads {', '.join(self.parts)}, "
                f"and {accepted}"
            )

    @abstractmethod
    def forward(
        self,
        values: Mapping[str, Tensor],
        exists: Tensor,
        subject: Tensor,
        lacking: Mapping[str, Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """Predict BOLD.

        Parameters
        ----------
        values : mapping of str to Tensor
            (B, C + W, *shape) of each part, as :meth:`Shapes.inputs` gives it; but for some, if
            it does without.
        exists : Tensor
            (B, C + W) bool; False for rows before the film and after it, and after the end of a
            window that is shorter than others: their values mean nothing and must not count.
        subject : Tensor
            (B,) int64, each window's subject; on the CPU, so that nobody waits for a GPU.
        lacking : mapping of str to Tensor, optional
            (B,) bool, windows whose film lacks a part, by the parts that some film lacks; given to
            models alone whose settings say ``films_may_lack_parts``.

        Returns
        -------
        dict of int to Tensor
            (B_s, W, units) z-scored BOLD of each subject s among them, its windows in the order
            of the batch; see :func:`by_subject`.
        """


def by_subject(bold_BWV: Tensor, subject: Tensor) -> dict[int, Tensor]:
    """Return what a head that all subjects share predicts, as a model gives it.

    Parameters
    ----------
    bold_BWV : Tensor
        (B, W, V).
    subject : Tensor
        (B,) int64, on the CPU.
    """
    indices = subject.unique().tolist()
    if len(indices) == 1:
        return {indices[0]: bold_BWV}
    return {index: bold_BWV[(subject == index).nonzero().flatten()] for index in indices}


def in_batch_order(
    predicted: Mapping[int, Tensor], subject: Tensor, units: Sequence[int] | None = None
) -> Tensor:
    """Return what a model predicts as (B, W, V), windows as in the batch.

    Subjects with fewer units than others have zeros at their end.

    Parameters
    ----------
    predicted : mapping of int to Tensor
        (B_s, W, units) of each subject s.
    subject : Tensor
        (B,) int64, on the CPU.
    units : sequence of int, optional
        Units of each subject by its index, of which V is the most (default: as many in all).

    Raises
    ------
    InputError
        If a subject's windows or units are missing, or TRs of windows differ.
    """
    indices = subject.unique().tolist()
    wanted = {index: int((subject == index).sum()) for index in indices}
    found = {index: tuple(bold.shape) for index, bold in predicted.items()}
    fits = {index: shape[0] for index, shape in found.items() if len(shape) == 3} == wanted
    same = slice(1, None if units is None else 2)
    if not fits or len({shape[same] for shape in found.values()}) > 1:
        raise InputError(
            f"the model predicted shapes {found} by subject, where (windows, TRs, units) of "
            f"{wanted} windows are expected"
        )
    has = {index: shape[2] for index, shape in found.items()}
    if units is not None and has != (due := {index: units[index] for index in indices}):
        raise InputError(f"the model predicted {has} units by subject, where {due} are expected")
    most = max(has.values() if units is None else units)
    rows = [_widened(predicted[index], most) for index in indices]
    if len(indices) == 1:
        return rows[0]
    order = torch.argsort(subject, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return torch.cat(rows)[place]


def _widened(bold_BWV: Tensor, n_units: int) -> Tensor:
    lacking = n_units - bold_BWV.shape[2]
    return nn.functional.pad(bold_BWV, (0, lacking)) if lacking else bold_BWV


def find_model(kind: str, packages: Iterable[str], where: str = "--model.kind") -> type[Predictor]:
    """Return the model of a kind: one that is built in, or one of the user's own.

    Raises
    ------
    InputError
        If there is no such model, or its package may not be or cannot be imported.
    """
    if (path := _BUILT_IN.get(kind)) is not None:
        kind, packages = path, [package_of(path)]
    model = load_object(kind, packages, where)
    if not (isinstance(model, type) and issubclass(model, Predictor)):
        raise InputError(f"{where} {kind}: is no model; a subclass of Predictor is accepted")
    return model


def build_predictor(
    settings: ModelSettings, shapes: Shapes, packages: Iterable[str] = ()
) -> Predictor:
    """Build the model that settings describe, for data of these shapes.

    Parameters
    ----------
    settings : ModelSettings
        Of the model's own class.
    shapes : Shapes
        What it is built for.
    packages : iterable of str
        Packages that may be imported.
    """
    return find_model(settings.kind, packages).build(settings, shapes, packages)
