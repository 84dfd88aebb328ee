"""What is predicted from what: everything that can be known, and be wrong, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from giblet_ray.checkpoint.store import Checkpoint, find_checkpoint
from giblet_ray.config import PredictJob
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.storage import is_uri
from giblet_ray.errors import InputError, nearest
from giblet_ray.parts.value import ValueType
from giblet_ray.prediction.folder import Films, Model, Predicted, Predictions, WrittenSpace
from giblet_ray.spaces.space import Space
from giblet_ray.tracking.sqlite import check_store

if TYPE_CHECKING:
    from giblet_ray.checkpoint.trained import Encoder

_Subject = TypeVar("_Subject", str, str | None)
_REGISTRY = "models:"
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Task:
    """What is predicted from what.

    Attributes
    ----------
    encoder : Encoder
        The model, on this machine's CPU.
    subject : int or None
        Whose response is predicted.
    dataset, selection : Dataset, Selection
        What is read of each row.
    space : Space
        What the units are.
    units : ndarray of int or None
        Which of them the model predicts (None: all).
    predictions : Predictions
        What there will be, as yet without files.
    """

    encoder: Encoder
    subject: int | None
    dataset: Dataset
    selection: Selection
    space: Space
    units: np.ndarray | None
    predictions: Predictions

    @property
    def spans(self) -> list[Span]:
        """Row groups of the chosen stimuli, in the order of the predictions."""
        films = (Span(film.name, 0, film.n_trs) for film in self.predictions.stimuli)
        return self.dataset.at_row_groups(films)

    @property
    def lacking(self) -> dict[str, tuple[str, ...]]:
        """Chosen stimuli without rows of a part, by the parts that some lack."""
        names = (stimulus.name for stimulus in self.predictions.stimuli)
        return self.dataset.lacking(self.selection.parts, names)

    @property
    def notes(self) -> list[str]:
        """What a user should know of where in the films the TRs begin that are predicted."""
        found: dict[str, list[str]] = {}
        for film in self.predictions.stimuli:
            n_phases = len(self.dataset.stimuli[film.name].phases)
            if film.phase_seconds or n_phases > 1:
                which = f", at the first of its {n_phases} phases" if n_phases > 1 else ""
                said = f"TR 0 begins {film.phase_seconds:g} s into the film{which}"
                found.setdefault(said, []).append(film.name)
        return [f"{', '.join(names)}: {said}" for said, names in found.items()]

    def trs_at_a_time(self, batch_trs: int) -> int:
        """Return how many TRs are about 32 MiB to read and to predict; a batch at least."""
        row_bytes = self.selection.row_bytes(self.dataset)
        return max(batch_trs, _BLOCK_BYTES // max(row_bytes, self.predictions.value.nbytes))


def plan_task(job: PredictJob) -> Task:
    """Find the model and the films, and make sure that they fit; starts nothing.

    Raises
    ------
    InputError
        If there is no such model or data set, or they do not fit one another.
    """
    return plan_tasks(job, Dataset.open(job.dataset), {job.subject: job.stimuli})[job.subject]


def plan_tasks(
    job: PredictJob, dataset: Dataset, wanted: Mapping[_Subject, Sequence[str]]
) -> dict[_Subject, Task]:
    """Do what :func:`plan_task` does for several subjects, with one model.

    Parameters
    ----------
    job : PredictJob
        Model, and what it does without.
    dataset : Dataset
        The films.
    wanted : mapping of str or None to sequence of str
        Stimuli by the subject whose response is predicted.
    """
    stimuli = {subject: _checked_stimuli(dataset, chosen) for subject, chosen in wanted.items()}
    with _found_model(job) as (checkpoint, version, run_id):
        # Here, so that a job which has no data set or no model has not waited for torch.
        from giblet_ray.checkpoint.files import load_space
        from giblet_ray.checkpoint.trained import Encoder

        encoder = Encoder.load(checkpoint.location, packages=job.packages)
        with _as_setting():
            parts = encoder.parts_without(job.without)
            heads = {subject: encoder.head_of(subject) for subject in wanted}
        encoder.check(dataset, parts)
        model = Model(
            asked=job.model,
            version=version,
            run_id=run_id,
            checkpoint=checkpoint.location,
            weights=encoder.record.weights_checksum,
            score=encoder.record.score,
        )
        tasks = {}
        for subject, head in heads.items():
            _check_parts(dataset, stimuli[subject], parts, encoder.model.may_lack)
            of_space = encoder.record.dataset.spaces[encoder.name_of(head)]
            with checkpoint.files(of_space.files.values()) as folder:
                space = load_space(folder, of_space, checkpoint.location)
            tasks[subject] = _task(encoder, head, dataset, stimuli[subject], parts, space, model)
    return tasks


def _task(
    encoder: Encoder,
    subject: int | None,
    dataset: Dataset,
    stimuli: Sequence[str],
    parts: tuple[str, ...],
    space: Space,
    model: Model,
) -> Task:
    """Return what is predicted by a head."""
    record, whose = encoder.record, encoder.name_of(subject)
    predictions = Predictions(
        model=model,
        without=tuple(part for part in encoder.shapes.parts if part not in parts),
        subject=_named(encoder, subject),
        dataset=Films(location=dataset.storage.location, checksum=dataset.manifest.checksum),
        tr_seconds=dataset.manifest.tr_seconds,
        lag_trs=record.lag_trs,
        value=ValueType(dtype="float32", shape=(record.dataset.subjects[whose],)),
        masked_voxels=int((~encoder.units_of(subject)).sum()),
        space=WrittenSpace(
            kind=space.kind,
            endings=space.endings,
            files={name: sha256(file).hexdigest() for name, file in space.files().items()},
        ),
        stimuli=tuple(
            Predicted(
                name=name,
                n_trs=dataset.stimuli[name].n_trs,
                first_bold_tr=record.lag_trs,
                phase_seconds=dataset.stimuli[name].phases[0].seconds,
                without=tuple(dataset.lacking(parts, [name])),
            )
            for name in stimuli
        ),
    )
    leading = {part: n for part, n in encoder.leading.items() if part in parts}
    selection = Selection(parts, leading=leading)
    units = record.indices_by_subject.get(whose)
    return Task(encoder, subject, dataset, selection, space, units, predictions)


def _named(encoder: Encoder, subject: int | None) -> str | None:
    """Return whose response a head predicts; None for everybody's."""
    from giblet_ray.checkpoint.trained import GROUP_NAME
    from giblet_ray.models.predictor import GROUP

    if subject == GROUP:
        return GROUP_NAME
    everybody = subject is None and len(encoder.shapes.subjects) > 1
    return None if everybody else encoder.name_of(subject)


@contextmanager
def _as_setting() -> Iterator[None]:
    """Name the setting, which an error of the encoder begins with, as the user does."""
    try:
        yield
    except InputError as error:
        raise InputError(f"--{error}") from error


@contextmanager
def _found_model(job: PredictJob) -> Iterator[tuple[Checkpoint, str | None, str | None]]:
    """Give the checkpoint while the block runs, and its version and run in the registry."""
    if job.model.startswith(_REGISTRY):
        check_store(job.tracking.uri)
        # Imported for models of the registry alone: MLflow takes seconds.
        from giblet_ray.tracking.registry import fetch_registered

        with fetch_registered(job.model, job.tracking.uri) as (folder, found):
            yield find_checkpoint(str(folder)), f"{found.name}/{found.version}", found.run_id
        return
    try:
        checkpoint = find_checkpoint(job.model)
    except InputError as error:
        hint = "" if is_uri(job.model) else "; models:/NAME@ALIAS takes a registered one"
        raise InputError(f"--model {error}{hint}") from error
    yield checkpoint, None, None


def _checked_stimuli(dataset: Dataset, chosen: Sequence[str]) -> tuple[str, ...]:
    names = list(dataset.stimuli)
    for name in chosen:
        if name not in names:
            raise InputError(
                f"--stimuli: {name!r} is not in {dataset.storage.location}{nearest(name, names)}; "
                f"it has {', '.join(names)}"
            )
    return tuple(dict.fromkeys(chosen)) or tuple(names)


def _check_parts(
    dataset: Dataset, stimuli: Sequence[str], parts: Sequence[str], may_lack: frozenset[str]
) -> None:
    """Refuse a film that lacks a part which the model does not do without, or all."""
    lacking = dataset.lacking(parts, stimuli)
    for name in stimuli:
        lacks = [part for part in parts if name in lacking.get(part, ())]
        needed = [part for part in lacks if part not in may_lack]
        if needed or len(lacks) == len(parts):
            raise InputError(
                f"{dataset.storage.location}: stimulus {name} has no {(needed or lacks)[0]}/, "
                "which the model reads; choose others (--stimuli)"
            )
