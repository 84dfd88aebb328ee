"""A trained encoder, loaded from a checkpoint and ready to predict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from giblet_ray.checkpoint.files import NORMALISATION, load_valid_voxels
from giblet_ray.checkpoint.pieces import load_weights
from giblet_ray.checkpoint.record import Record
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.errors import InputError, nearest, one_line
from giblet_ray.models.predictor import GROUP, Predictor, Shapes, build_predictor
from giblet_ray.parts.reading import find_reading

GROUP_NAME = "group"
"""What the head for nobody in particular is called."""


class Encoder:
    """A trained model, ready to predict.

    >>> encoder = Encoder.load("runs/first")
    >>> bold_NV = encoder.predict(frames=frames, codes=codes, text=text)
    >>> bold_NV = encoder.predict("07", frames=frames, codes=codes, text=text)

    Attributes
    ----------
    model : Predictor
        In evaluation mode.
    record : Record
        What was trained on what, and how far.
    valid_SV : ndarray of bool, shape (subjects, units)
        Units that took part in each subject's training; the others have no prediction for it. Units
        are as many as the subject with most has.
    packages : tuple of str
        Packages that its model may be imported from.
    shapes : Shapes
        What it was built for.
    leading : dict of str to int
        How many entries of a part it reads, where there may be more.
    """

    def __init__(
        self, model: Predictor, record: Record, valid_SV: np.ndarray, packages: Iterable[str] = ()
    ) -> None:
        self.model = model
        self.record = record
        self.valid_SV = valid_SV
        self.packages = tuple(packages)
        self.shapes = Shapes.of_record(record.dataset, record.lag_trs)
        self.leading = record.model_settings(self.packages).leading_of(self.shapes.encoders)

    @classmethod
    def load(
        cls,
        path: str | Path,
        dataset: Dataset | None = None,
        device: str = "cpu",
        packages: Iterable[str] = (),
    ) -> Encoder:
        """Load a checkpoint folder, or the best checkpoint of a run's folder.

        Parameters
        ----------
        path : str or Path
            Folder or URI.
        dataset : Dataset, optional
            The data set that it will be used with; see :meth:`check`.
        device : str
            Where the model goes.
        packages : iterable of str
            Packages that the model may be imported from, if it is not built in; see
            :mod:`giblet_ray.plugins`.

        Raises
        ------
        InputError
            If there is no complete checkpoint, it does not fit the data set, or its model is code
            of a package that may not be imported.
        """
        checkpoint = find_checkpoint(str(path))
        record = checkpoint.record
        with checkpoint.files((*record.weight_files, NORMALISATION)) as folder:
            try:
                weights = load_weights(folder, record)
                valid_SV = load_valid_voxels(folder, record)
                encoder = cls.build(record, weights, valid_SV, device, packages)
            except (InputError, torch.OutOfMemoryError):
                raise
            except (OSError, RuntimeError, SafetensorError) as error:
                where = f"{checkpoint.location}/{record.weight_files[0]}"
                raise InputError(
                    f"{where}: not the weights of this run: {one_line(error)}"
                ) from error
        if dataset is not None:
            encoder.check(dataset)
        return encoder

    @classmethod
    def build(
        cls,
        record: Record,
        weights: Mapping[str, Tensor],
        valid_SV: np.ndarray,
        device: str,
        packages: Iterable[str] = (),
    ) -> Encoder:
        """Build the model that a record describes around its weights.

        Parameters
        ----------
        record : Record
            A checkpoint's.
        weights : mapping of str to Tensor
            By name in the model. They are taken as they are, not copied, unless they have to move
            to the device: processes that share them share their memory.
        valid_SV : ndarray of bool, shape (subjects, units)
            Units that took part in each subject's training.
        device, packages
            As :meth:`load` takes them.

        Raises
        ------
        InputError
            If the model is code of a package that may not be imported.
        RuntimeError
            If a weight is missing, unknown, or of another shape.
        """
        settings = record.model_settings(packages)
        shapes = Shapes.of_record(record.dataset, record.lag_trs)
        with unfilled():
            model = build_predictor(settings, shapes, packages)
        model.load_state_dict(weights, assign=True)
        return cls(model.to(device).eval(), record, valid_SV, packages)

    def parts_without(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the parts that are left for it to predict from.

        Parameters
        ----------
        names : iterable of str
            Parts that it is to do without, as the data set or ``data.modalities`` calls them.

        Raises
        ------
        InputError
            If it reads no such part, or does not predict without.
        """
        wanted, lacking = tuple(names), set()
        for name in wanted:
            if (part := self.record.parts.get(name, name)) not in self.shapes.parts:
                has = list(self.record.parts)
                raise InputError(
                    f"without {name}: the model reads {', '.join(has)}{nearest(name, has)}"
                )
            lacking.add(part)
        left = tuple(part for part in self.shapes.parts if part not in lacking)
        try:
            self.model.check_parts(left)
        except InputError as error:
            raise InputError(f"without {', '.join(wanted)}: {error}") from error
        return left

    def check(self, dataset: Dataset, parts: Collection[str] | None = None) -> None:
        """Make sure that a data set's rows mean what those meant that the model was trained on.

        Parameters
        ----------
        dataset : Dataset
            Holds the rows.
        parts : collection of str, optional
            Those that it is to predict from (default: all that it reads).

        Raises
        ------
        InputError
            If shapes, TR, or what made the codes and embeddings differ.
        """
        trained = self.record.dataset
        where = dataset.storage.location
        if dataset.manifest.tr_seconds != trained.tr_seconds:
            raise InputError(
                f"{where}: TR is {dataset.manifest.tr_seconds:g} s; the model was trained at "
                f"{trained.tr_seconds:g} s"
            )
        for name, encoder in trained.encoders.items():
            if parts is not None and name not in parts:
                continue
            part, kind = dataset.manifest.parts.get(name), trained.values[name]
            if part is None or not find_reading(encoder, name).suits(part.value, kind):
                offered = ""
                if part is None and name in self.model.may_lack:
                    offered = f"; --without {name} predicts all the same"
                raise InputError(
                    f"{where}: {name}/ holds {part.value if part else 'nothing'}; the model was "
                    f"trained on {kind}{offered}"
                )
            if (made := part.made_with) != trained.made_with.get(name):
                raise InputError(
                    f"{where}: {name}/ was made with {made}; the model was trained on "
                    f"{trained.made_with.get(name)}"
                )

    def predict(self, subject: str | None = None, /, **values: np.ndarray) -> np.ndarray:
        """Predict z-scored BOLD from the stimulus at n consecutive TRs, lag TRs earlier.

        Parameters
        ----------
        subject : str, optional
            Whose, or ``group``; see :meth:`subject_index`.
        **values : ndarray
            (n, *shape) of each part that the model was trained on, as a data set has it: frames
            (n, 3, height, width) uint8, codes (n, K, T) int16, text (n, dim) float32. A model with
            context takes the first TR for that at which the film begins. One that was trained with
            ``model.modality_dropout`` predicts without those that are left out.

        Returns
        -------
        ndarray
            (n, units) float32; NaN where a unit was masked in training (constant, or not finite),
            in all subjects if they share the head.

        Raises
        ------
        InputError
            If the model has no head for this subject, or several and none is named; if it does not
            read a part, or not do without one; if rows are of another dtype or shape than those
            that it was trained on, of one part fewer than of another, or none.
        """
        for name in values:
            if name not in self.shapes.parts:
                raise InputError(
                    f"{name}: the model reads {', '.join(self.shapes.parts)}"
                    f"{nearest(name, self.shapes.parts)}"
                )
        n_trs = {name: len(rows) for name, rows in values.items()}
        if len({*n_trs.values()}) > 1 or 0 in n_trs.values():
            found = ", ".join(f"{n} of {name}" for name, n in n_trs.items())
            raise InputError(
                f"rows: found {found}; each part has one row per TR, of one TR or more"
            )
        return self.predict_trs(values, self.head_of(subject))

    @torch.inference_mode()
    def predict_trs(
        self,
        values: Mapping[str, np.ndarray],
        subject: int | None = None,
        at_a_time: int = 256,
        after: int = 0,
        first: int = 0,
    ) -> np.ndarray:
        """Predict as :meth:`predict` does, or for one of the subjects.

        Parameters
        ----------
        values : mapping of str to ndarray
            (n, *shape) by part; others are left out.
        subject : int, optional
            Index of the subject, or :data:`GROUP`. A head that all subjects share gives the same
            for each, but where a unit was masked in one.
        at_a_time : int
            TRs that the model is given at a time, besides their context: what it takes for them is
            in memory at once.
        after : int
            TRs after the last that are predicted, too: the film has ended.
        first : int
            The first TR that is predicted; those before it are its context.
        """
        self.model.check_parts(values.keys())
        device = next(self.model.parameters()).device
        read = [part for part in self.shapes.parts if part in values]
        rows = {part: self._narrowed(part, values[part]) for part in read}
        n, context = len(next(iter(rows.values()))), self.model.context_trs
        stop = n + after
        predicted = []
        for start in range(first, stop, at_a_time):
            window = range(start - context, min(stop, start + at_a_time))
            inputs = {part: _window(row, window) for part, row in rows.items()}
            exists = torch.tensor([[0 <= tr < n for tr in window]], device=device)
            on_device = {part: value.to(device) for part, value in inputs.items()}
            of = torch.tensor([subject or 0])
            bold = self.model(self.shapes.inputs(on_device), exists, of)[subject or 0]
            predicted.append(bold[0].float().cpu().numpy())
        bold_NV = np.concatenate(predicted)
        bold_NV[:, ~self.units_of(subject)] = np.nan
        return bold_NV

    def read_stimulus(
        self, dataset: Dataset, span: Span, parts: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Read some stimulus TRs as the model is given them: (TRs, *shape) of each part that the
        stimulus has, or of some.

        Raises
        ------
        InputError
            If they cannot be read.
        """
        there = dataset.stimuli[span.stimulus].shards
        read = tuple(part for part in parts or self.shapes.parts if part in there)
        selection = Selection(read, leading=self.leading)
        table = dataset.read(span, selection)
        return {
            name: as_arrays(table[name].combine_chunks(), kind)
            for name, kind in selection.value_types(dataset).items()
        }

    def units_of(self, subject: int | None) -> np.ndarray:
        """Return which units :meth:`predict_trs` predicts for a subject, bool (units,)."""
        if subject == GROUP or (subject is None and not self.model.tells_subjects_apart):
            return np.logical_or.reduce(self.valid_SV)
        n_units = list(self.shapes.units.values())[subject or 0]
        return self.valid_SV[subject or 0, :n_units]

    def name_of(self, subject: int | None) -> str:
        """Return the subject whose units :meth:`predict_trs` predicts; of several, the first."""
        return self.shapes.subjects[0 if subject in (None, GROUP) else subject]

    def predict_bold(
        self,
        dataset: Dataset,
        span: Span,
        subject: int | None = None,
        read: Callable[[Span], Mapping[str, np.ndarray]] | None = None,
    ) -> np.ndarray:
        """Predict the BOLD of some TRs of a data set.

        Parameters
        ----------
        dataset : Dataset
            What the stimulus is read from.
        span : Span
            BOLD TRs of a stimulus, counted from its onset; also after its end.
        subject : int, optional
            Index of the subject, as :meth:`predict_trs` takes it.
        read : callable, optional
            Gives other rows of stimulus TRs than :meth:`read_stimulus` does.

        Returns
        -------
        ndarray
            (TRs, units) float32, z-scored; NaN where a unit was masked in training, 0 (the mean)
            at TRs which answer to nothing that the model could see: before the lag has passed, and
            too long after the film's end.
        """
        lag, context = self.record.lag_trs, self.model.context_trs
        film_trs = dataset.stimuli[span.stimulus].phases[span.phase].n_trs
        first, stop = max(0, span.start - lag), min(span.stop - lag, film_trs + context)
        units_V = self.units_of(subject)
        bold_NV = np.zeros((len(span), len(units_V)), np.float32)
        if stop > first:
            seen = replace(span, start=max(0, first - context), stop=min(stop, film_trs))
            values = self.read_stimulus(dataset, seen) if read is None else read(seen)
            predicted_NV = self.predict_trs(values, subject, after=stop - seen.stop)
            at = first + lag - span.start
            bold_NV[at : at + stop - first] = predicted_NV[first - seen.start :]
        bold_NV[:, ~units_V] = np.nan
        return bold_NV

    def subject_index(self, subject: str) -> int | None:
        """Return the index of the head that predicts a subject; None for one that all share.

        Parameters
        ----------
        subject : str
            A subject, or ``group``: nobody in particular, for a model that has such a head.

        Raises
        ------
        InputError
            If the model tells subjects apart, and was not trained on this one.
        """
        if not self.model.tells_subjects_apart:
            return None
        if subject in self.shapes.subjects:
            return self.shapes.subjects.index(subject)
        if subject == GROUP_NAME and self.model.has_group_head:
            return GROUP
        has = ", ".join(self.shapes.subjects)
        offered, lacks = "", self.model.without_group_head
        if self.model.has_group_head:
            offered = f"; {GROUP_NAME} is its head for nobody in particular"
        elif subject == GROUP_NAME and lacks:
            have = "member has" if len(lacks) == 1 else "members have"
            offered = f", and its {have} no head for nobody in particular: {', '.join(lacks)}"
        raise InputError(f"subject {subject}: the model was trained on {has}{offered}")

    def head_of(self, subject: str | None) -> int | None:
        """Return the index of the head that is meant; without a subject, the only one there is.

        Of a head that all subjects share, which units it predicts is each subject's own.

        Raises
        ------
        InputError
            If none is named and there are several, or the model was not trained on this one.
        """
        subjects = self.shapes.subjects
        if subject is not None:
            shared = not self.model.tells_subjects_apart and subject in subjects
            return subjects.index(subject) if shared else self.subject_index(subject)
        if not self.model.tells_subjects_apart or len(subjects) == 1:
            return None
        if self.model.has_group_head:
            return GROUP
        raise InputError(f"subject is missing: the model tells {', '.join(subjects)} apart")

    def _narrowed(self, part: str, values: np.ndarray) -> Tensor:
        """Return rows of a part, of more codebooks than the model hears the first ones."""
        wanted = self.shapes.values[part]
        found = wanted.model_copy(update={"shape": values.shape[1:]})
        reading = find_reading(self.shapes.encoders[part], part)
        if values.dtype != wanted.dtype or not reading.suits(found, wanted):
            shape = " x ".join(map(str, values.shape[1:]))
            raise InputError(
                f"{part}: found rows of {values.dtype}({shape}), the model was trained on {wanted}"
            )
        return torch.from_numpy(np.ascontiguousarray(values[:, : wanted.shape[0]]))


def _window(rows: Tensor, trs: range) -> Tensor:
    """Return the rows of some TRs as one window, (1, TRs, *shape); 0 before the first, and after
    the last."""
    there = rows[max(0, trs.start) : max(0, trs.stop)]
    before, after = max(0, -trs.start), max(0, trs.stop - max(trs.start, len(rows)))
    if not before and not after:
        return there[None]
    around = (there.new_zeros((n, *rows.shape[1:])) for n in (before, after))
    return torch.cat([next(around), there, next(around)])[None]
