"""What a run reads of a data set, decided before any worker starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from giblet_ray.dataset.config import DataConfig, SplitConfig
from giblet_ray.dataset.garbage import uncollected
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.order import DataOrder, OrderedWindows
from giblet_ray.dataset.reader import Dataset, Selection, spans_by_stimulus
from giblet_ray.dataset.same_film import read_same, same_films
from giblet_ray.dataset.splits import IN_WORDS, SETS, SameFilm, SetName, Split, Use, draw_split
from giblet_ray.dataset.trainable import (
    HEAD_PER_SUBJECT,
    all_same,
    check_context,
    check_films,
    check_films_have,
    check_parts_train,
    check_units,
    chosen_units,
)
from giblet_ray.dataset.windows import Windows, cut_stretches, unbroken, window_trs
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType

if TYPE_CHECKING:
    import ray

Residence = Literal["device", "memory", "stream"]


@dataclass(frozen=True)
class DataView:
    """What a run reads of a data set; small, and the same for all of its workers.

    Attributes
    ----------
    dataset, selection : Dataset, Selection
        What is read. The selection has no lag.
    scans : tuple of ScanKey
        What a window's scan index means.
    split : Split
        The three sets, in BOLD TRs.
    windows : mapping of str to Windows
        Samples of each set. TRs that answer to nothing that a model could see, a scan's first,
        before the lag has passed, and those too long after its film, are judged and train nothing.
    lag_trs, window, context_trs : int
        BOLD's delay, TRs per sample at most, and TRs of the stimulus before them.
    residence : {'memory', 'device', 'stream'}
        Where the rows lie; with `reason`, as told to the user. See
        :func:`giblet_ray.dataset.residence.place_data`.
    may_move_to_device : bool
        Workers whose GPU has room take the rows from the object store to it.
    same : tuple of SameFilm
        Intervals of films that show the same, which the split keeps in one set.
    blocks : tuple of ObjectRef
        Rows in the object store, unless streamed.
    held : Selection
        What the blocks hold: the selection, or more.
    """

    dataset: Dataset
    selection: Selection
    scans: tuple[ScanKey, ...]
    split: Split
    windows: Mapping[SetName, Windows]
    lag_trs: int
    window: int
    context_trs: int = 0
    residence: Residence = "stream"
    may_move_to_device: bool = False
    reason: str = ""
    same: tuple[SameFilm, ...] = ()
    blocks: tuple[ray.ObjectRef, ...] = ()
    held: Selection | None = None

    @property
    def train(self) -> Windows:
        """Samples that fit the model."""
        return self.windows["train"]

    @property
    def val(self) -> Windows:
        """Samples that choose its epoch."""
        return self.windows["val"]

    @property
    def context_share(self) -> float:
        """Share of the stimulus rows of all training windows that are context."""
        n = self.train.n_context(self.lag_trs, self.context_trs)
        return n / (n + self.train.n_trs)

    @property
    def units(self) -> dict[str, int]:
        """How many units are predicted of each subject, in the order of their indices."""
        columns = {name: bold_column(name) for name in self.selection.subjects}
        return {
            name: self.selection.value_type(self.dataset, column).shape[0]
            for name, column in columns.items()
        }

    @property
    def units_are_shared(self) -> bool:
        """Whether a unit is the same one in all subjects: of one space, and chosen alike."""
        subjects = [self.dataset.manifest.subjects[name] for name in self.selection.subjects]
        alike = all(each == subjects[0] for each in subjects)
        return alike and all_same(list(self.selection.units.values()))

    @property
    def units_in_words(self) -> str:
        """How many units are predicted: one number, or that of each subject."""
        units = self.units
        if len(set(units.values())) == 1:
            return f"{next(iter(units.values())):,}"
        return ", ".join(f"{n:,} of {name}" for name, n in units.items())

    @property
    def values(self) -> dict[str, ValueType]:
        """What one row of a batch holds, by part."""
        kinds = self.selection.value_types(self.dataset)
        of_subjects = [kind for name, kind in kinds.items() if name not in self.selection.parts]
        bold = max(of_subjects, key=lambda kind: kind.shape)
        return {name: kinds[name] for name in self.selection.parts} | {"bold": bold}

    @property
    def uses(self) -> list[np.ndarray]:
        """What each scan's BOLD TRs are for, (TRs of its stimulus,) int8 each: see :class:`Use`."""
        return [
            np.where(self.dataset.usable_trs(scan), wanted, Use.NONE)
            for scan, wanted in zip(self.scans, self._wanted(), strict=True)
        ]

    @property
    def n_lacking(self) -> int:
        """TRs of films, over all scans, that are in a set, and not in the scan or masked there."""
        n_lacking = 0
        for scan, wanted in zip(self.scans, self._wanted(), strict=True):
            lacking = (wanted > Use.NONE) & ~self.dataset.usable_trs(scan)
            n_lacking += int(lacking[: self.dataset.film_trs(scan)].sum())
        return n_lacking

    @property
    def lacking(self) -> dict[str, tuple[str, ...]]:
        """Stimuli without rows of a part, by the parts that some lack."""
        return self.dataset.lacking(self.selection.parts, (scan.stimulus for scan in self.scans))

    def _wanted(self) -> Iterator[np.ndarray]:
        """Yield what the split has each scan's TRs for, whether it has them or not."""
        spans = {name: spans_by_stimulus(self.split.spans(name)) for name in SETS}
        for scan in self.scans:
            use = np.zeros(self.dataset.bold_trs[scan.stimulus], np.int8)
            for name in SETS:
                if self.split.has(name, scan.repeat):
                    for span in spans[name].get(scan.stimulus, ()):
                        use[span.start : span.stop] = Use.TRAINS if name == "train" else Use.JUDGES
            yield use

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint records of the data set."""
        manifest = self.dataset.manifest
        files = self._space_files
        return {
            "location": self.dataset.storage.location,
            "checksum": manifest.checksum,
            "tr_seconds": manifest.tr_seconds,
            "values": {name: kind.model_dump(mode="json") for name, kind in self.values.items()},
            "encoders": {part: manifest.parts[part].encoder for part in self.selection.parts},
            "lacking": self.lacking,
            "subjects": self.units,
            "units_are_shared": self.units_are_shared,
            "made_with": {name: part.made_with for name, part in manifest.parts.items()},
            "spaces": {
                name: {
                    "kind": manifest.subjects[name].space.kind,
                    "n_units": manifest.subjects[name].n_units,
                    "files": {
                        role: files[path]
                        for role, path in manifest.subjects[name].space.blobs.items()
                    },
                }
                for name in self.selection.subjects
            },
        }

    @property
    def _space_files(self) -> dict[str, str]:
        """Name that a checkpoint has of each file of a space: by its path in the data set."""
        files: dict[str, str] = {}
        for name in self.selection.subjects:
            for role, path in self.dataset.manifest.subjects[name].space.blobs.items():
                plain = f"space-{role}"
                taken = plain in files.values()
                files.setdefault(path, f"space-{name}-{role}" if taken else plain)
        return files

    def space_files(self) -> dict[str, bytes]:
        """Read what the spaces of the units are made of: content by the checkpoint's file.

        Raises
        ------
        InputError
            If one is not what was written.
        """
        return {file: self.dataset.blob(path) for path, file in self._space_files.items()}

    def ordered(self, order: DataOrder) -> OrderedWindows:
        """Return the windows with the order that they train in."""
        step = self.dataset.manifest.row_group_trs
        groups = [-(-n_trs // step) for n_trs in self.dataset.bold_trs.values()]
        first = dict(zip(self.dataset.bold_trs, np.cumsum([0, *groups]).tolist(), strict=False))
        first_group = np.array([first[scan.stimulus] for scan in self.scans], np.int32)
        row_group = first_group[self.train.scan] + self.train.start // step
        row_group += self.train.phase * sum(groups)
        return OrderedWindows(self.train, self.val, row_group, order)

    @property
    def n_bytes(self) -> int:
        """Bytes of all rows."""
        rows = sum(len(span) for span in self.dataset.row_groups(self.selection.parts))
        return rows * self.selection.row_bytes(self.dataset)


@uncollected()
def view_data(
    dataset: Dataset,
    settings: DataConfig,
    parts: Sequence[str],
    leading: Mapping[str, int] | None = None,
    context_trs: int = 0,
    same: Sequence[SameFilm] | None = None,
    batch_trs: int = 1,
    head_per_subject: bool = False,
    may_lack: bool = False,
    trains: bool = True,
) -> DataView:
    """Decide what is read, from the settings and the manifest alone; starts nothing.

    Parameters
    ----------
    dataset : Dataset
        What is read from.
    settings : DataConfig
        Subjects, units, lag, windows and split.
    parts, leading
        As a :class:`giblet_ray.dataset.reader.Selection` has them.
    context_trs : int
        TRs of the stimulus before those of a window that the model sees.
    same : sequence of SameFilm, optional
        Intervals that show the same, where a run has kept them (default: those of
        ``data.split.same``).
    batch_trs : int
        TRs of a batch, which windows of no given length are as long as at most.
    head_per_subject : bool
        Whether the model has a head for each subject: their units may then differ.
    may_lack : bool
        Whether films may lack parts that others have.
    trains : bool
        Whether a model is trained, which may see no TR that is held out.

    Raises
    ------
    InputError
        If the data set lacks what is asked for, or the split leaves too little, or it holds what
        cannot be trained on yet.
    """
    selection = _select(dataset, settings, tuple(parts), leading or {}, head_per_subject)
    series = {each: index for index, each in enumerate(selection.series)}
    film = {name: index for index, name in enumerate(dataset.stimuli)}
    chosen = (scan for scan in dataset.scans if (scan.subject, scan.repeat) in series)
    scans = tuple(sorted(chosen, key=lambda of: (series[of.subject, of.repeat], film[of.stimulus])))
    check_films_have(dataset, parts, scans, may_lack)
    tr_seconds = dataset.manifest.tr_seconds
    if same is None:
        same = _same(settings.split, dataset)
    if context_trs and trains:
        check_context(dataset, settings.split, scans, same, context_trs)
    split = _split(settings, dataset, scans, same)
    lag_trs = settings.lag_trs(tr_seconds)
    stretches = _stretches(split, dataset, scans, lag_trs, context_trs)
    films = [dataset.scans[s].phase for s in scans], [dataset.film_trs(s) for s in scans]
    trained = stretches["train"]
    check_parts_train(dataset, parts, {scans[index].stimulus for index in trained[:, 0].tolist()})
    window = settings.window or window_trs(context_trs, batch_trs, int(trained[:, 2].max()))
    return DataView(
        dataset,
        selection,
        scans,
        split,
        {name: cut_stretches(stretches[name], window, *films) for name in SETS},
        lag_trs,
        window,
        context_trs,
        same=tuple(same),
    )


def _stretches(
    split: Split, dataset: Dataset, scans: Sequence[ScanKey], lag_trs: int, context_trs: int
) -> dict[SetName, np.ndarray]:
    """Return the stretches of scans that each set has, as :func:`unbroken` does.

    A TR that trains answers to what the model sees: the film, lag TRs before it, and context.
    """
    of_sets: dict[SetName, list[np.ndarray]] = {name: [] for name in SETS}
    for scan in scans:
        there = dataset.usable_trs(scan)
        for name, usable in of_sets.items():
            trs = there & split.has(name, scan.repeat)
            if name == "train":
                trs[:lag_trs] = False
                trs[dataset.film_trs(scan) + lag_trs + context_trs :] = False
            usable.append(trs)
    found = {name: unbroken(split.spans(name), scans, of_sets[name]) for name in SETS}
    for name, stretches in found.items():
        if not len(stretches):
            raise InputError(
                f"--data.split: every {IN_WORDS[name]} TR is masked, or lies before the lag has "
                "passed, or is one that no scan has BOLD of"
            )
    return found


def _select(
    dataset: Dataset,
    settings: DataConfig,
    parts: tuple[str, ...],
    leading: Mapping[str, int],
    head_per_subject: bool,
) -> Selection:
    where, there = dataset.storage.location, dataset.manifest.parts
    for part in parts:
        if part not in there:
            raise InputError(
                f"{where}: has no {part}/, which the run needs; it has {', '.join(there)}"
            )
    if not dataset.scans:
        raise InputError(f"{where}: has no scans (bold/): it serves for predicting, not training")
    subjects = dataset.checked_subjects(settings.subjects)
    repeats = dict.fromkeys(subjects, 1)
    for scan in dataset.scans:
        if scan.subject in repeats:
            repeats[scan.subject] = max(scan.repeat, repeats[scan.subject])
    check_units(dataset, subjects, settings, head_per_subject)
    units: dict[str, np.ndarray] = {}
    if settings.voxels is not None:
        units = {each: chosen_units(dataset, each, settings.voxels) for each in subjects}
    if not (head_per_subject or all_same(list(units.values()))):
        raise InputError(
            f"--data.voxels {settings.voxels}: chooses other units of one subject than of another, "
            f"who share a head; {HEAD_PER_SUBJECT}, or choose some subjects (--data.subjects)"
        )
    return Selection(parts, subjects, repeats, dict(leading), units)


def _same(settings: SplitConfig, dataset: Dataset) -> tuple[SameFilm, ...]:
    n_trs = {name: stimulus.n_trs for name, stimulus in dataset.stimuli.items()}
    timing = n_trs, dataset.manifest.tr_seconds
    if settings.same is None:
        found = dataset.manifest.provenance.get("same") or []
        return same_films(found, dataset.storage.location, *timing)
    return read_same(settings.same, *timing)


def _split(
    settings: DataConfig, dataset: Dataset, scans: Sequence[ScanKey], same: Sequence[SameFilm]
) -> Split:
    names = dict.fromkeys(scan.stimulus for scan in scans)
    n_trs = {name: dataset.stimuli[name].n_trs for name in names}
    tr_seconds = dataset.manifest.tr_seconds
    split = draw_split(settings.split, n_trs, tr_seconds, (scan.repeat for scan in scans), same)
    check_films(dataset, split, names)
    return split.reaching(n_trs, dataset.bold_trs)
