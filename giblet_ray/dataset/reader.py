"""An open data set: what it holds, and any span of its TRs as one Arrow table."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays, as_binary
from giblet_ray.dataset.layout import MANIFEST, ScanKey, bold_column, bold_labels, stimulus_labels
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.shard import ShardContent, read_trs
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Scan, Shard, Stimulus, WrittenFile, exact_first_tr
from giblet_ray.errors import InputError, nearest, one_line
from giblet_ray.parts.reading import find_reading
from giblet_ray.parts.value import ValueType
from giblet_ray.spaces.usable import unmasked

if TYPE_CHECKING:
    from giblet_ray.spaces.space import Space


@dataclass(frozen=True)
class Span:
    """The TRs [start, stop) of one stimulus, as scans see it at one of its phases."""

    stimulus: str
    start: int
    stop: int
    phase: int = 0

    def __len__(self) -> int:
        return self.stop - self.start


def spans_by_stimulus(spans: Iterable[Span]) -> dict[str, list[Span]]:
    """Return the spans of each stimulus, in their order."""
    found: dict[str, list[Span]] = {}
    for span in spans:
        found.setdefault(span.stimulus, []).append(span)
    return found


@dataclass(frozen=True)
class Selection:
    """Which part of each row is read.

    Attributes
    ----------
    parts : tuple of str
        Parts of the stimulus: frames, codes, text, ...
    subjects : tuple of str
        Whose BOLD is read.
    repeats : mapping of str to int
        Of subjects who saw a stimulus several times: up to which time is read (default: the first).
    leading : mapping of str to int
        Of parts whose first entries are read alone: how many (codebooks of codes).
    units : mapping of str to ndarray of int
        Of subjects of whom some units are read: their indices.
    """

    parts: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    repeats: Mapping[str, int] = field(default_factory=dict)
    leading: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, np.ndarray] = field(default_factory=dict)

    def row_bytes(self, dataset: Dataset) -> int:
        """Return the bytes of one row, its identity aside."""
        return sum(kind.nbytes for kind in self.value_types(dataset).values())

    @property
    def series(self) -> tuple[tuple[str, int], ...]:
        """Subject and repeat of every BOLD column."""
        return tuple(
            (subject, repeat)
            for subject in self.subjects
            for repeat in range(1, self.repeats.get(subject, 1) + 1)
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the value columns: the parts, and ``bold/SUBJECT`` for each subject."""
        return (*self.parts, *itertools.starmap(bold_column, self.series))

    def value_types(self, dataset: Dataset) -> dict[str, ValueType]:
        """Return the shape and dtype of every value column's arrays, as selected."""
        return {column: self.value_type(dataset, column) for column in self.columns}

    def value_type(self, dataset: Dataset, column: str) -> ValueType:
        """Return the shape and dtype of a column's arrays, as selected."""
        kind = dataset.value_type(column)
        if column.startswith("bold/"):
            units = self.units.get(column.split("/")[1])
            first = None if units is None else len(units)
        else:
            first = self.leading.get(column)
        if first is None:
            return kind
        return kind.model_copy(update={"shape": (first, *kind.shape[1:])})


@dataclass(frozen=True)
class Dataset:
    """A data set whose manifest has been read and whose files are there.

    Pickles, so that read tasks can carry it.
    """

    storage: Storage
    manifest: Manifest

    @classmethod
    def open(cls, location: str) -> Dataset:
        """Open the data set at a path or URI.

        Raises
        ------
        InputError
            If there is none, its manifest cannot be used, or a file is missing or of another
            size than the manifest says.
        """
        dataset = cls.described(location)
        storage, files = dataset.storage, dataset.files
        sizes = storage.sizes()
        for file in files:
            if (size := sizes.get(file.path)) != file.bytes:
                found = "no such file" if size is None else f"{size:,} bytes"
                raise InputError(
                    f"{storage.describe(file.path)}: {found}; the manifest says "
                    f"{file.bytes:,} bytes: run precompute again"
                )
        return dataset

    @classmethod
    def described(cls, location: str) -> Dataset:
        """Return the data set at a path or URI as its manifest describes it.

        Raises
        ------
        InputError
            If there is none, or its manifest cannot be used.
        """
        storage = Storage.at(location)
        try:
            text = storage.read(MANIFEST)
        except FileNotFoundError as error:
            raise InputError(
                f"{storage.describe(MANIFEST)}: no such file; a finished data set has one "
                "(jobs/precompute.py writes it last)"
            ) from error
        return cls(storage, Manifest.from_json(text, storage.describe(MANIFEST)))

    @cached_property
    def stimuli(self) -> dict[str, Stimulus]:
        """Every stimulus by its name."""
        return {stimulus.name: stimulus for stimulus in self.manifest.stimuli}

    @cached_property
    def scans(self) -> dict[ScanKey, Scan]:
        """Every scan by what it is."""
        return {scan.key: scan for scan in self.manifest.scans}

    def only(self, stimuli: Iterable[str]) -> Dataset:
        """Return what this one has of some stimuli: to read them, all that another process needs.

        Its checksum is another.
        """
        names = dict.fromkeys(stimuli)
        of_them = {
            "stimuli": tuple(self.stimuli[name] for name in names),
            "scans": tuple(scan for name in names for scan in self._scans_of.get(name, ())),
            "provenance": {},  # of all files: most of a manifest
        }
        return Dataset(self.storage, self.manifest.model_copy(update=of_them))

    @cached_property
    def _scans_of(self) -> dict[str, list[Scan]]:
        found: dict[str, list[Scan]] = {}
        for scan in self.manifest.scans:
            found.setdefault(scan.stimulus, []).append(scan)
        return found

    @property
    def shards(self) -> list[Shard]:
        """Every file of rows."""
        phases = [phase for stimulus in self.manifest.stimuli for phase in stimulus.phases]
        parts = [shard for phase in phases for shard in phase.shards.values()]
        return parts + [scan.shard for scan in self.manifest.scans]

    @property
    def files(self) -> list[WrittenFile]:
        """Every file of the data set but its manifest."""
        return [*self.shards, *self.manifest.blobs]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects who have a scan, sorted."""
        return tuple(sorted({scan.subject for scan in self.scans}))

    def value_type(self, column: str) -> ValueType:
        """Return what a row of a part, or of a subject's BOLD (``bold/SUBJECT``), holds."""
        if column.startswith("bold/"):
            return self.manifest.subjects[column.split("/")[1]].value
        return self.manifest.parts[column].value

    @cached_property
    def bold_trs(self) -> dict[str, int]:
        """TRs of each stimulus that have rows: its own, and those after them that a scan has."""
        trs = {name: stimulus.n_trs for name, stimulus in self.stimuli.items()}
        for scan in self.manifest.scans:
            trs[scan.stimulus] = max(trs[scan.stimulus], self.first_tr(scan) + scan.n_trs)
        return trs

    def film_trs(self, scan: ScanKey) -> int:
        """Return how many TRs a scan's stimulus has, as it sees it: its BOLD may go on."""
        return self.stimuli[scan.stimulus].phases[self.scans[scan].phase].n_trs

    def lacking(self, parts: Iterable[str], stimuli: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return which of some stimuli have no rows of a part, by the parts that some lack."""
        shards = {name: self.stimuli[name].shards for name in stimuli}
        found = {
            part: tuple(name for name, there in shards.items() if part not in there)
            for part in parts
        }
        return {part: without for part, without in found.items() if without}

    def usable_trs(self, scan: ScanKey) -> np.ndarray:
        """Return at which TRs of its stimulus, and after it, a scan has BOLD that is not masked.

        Returns
        -------
        ndarray of bool, shape (bold_trs,)
        """
        found = self.scans[scan]
        of_rows = unmasked(found.n_trs, found.masked_trs)
        usable = np.zeros(self.bold_trs[scan.stimulus], bool)
        first = self.first_tr(found)
        start, stop = max(0, first), first + len(of_rows)
        if start < stop:
            usable[start:stop] = of_rows[start - first : stop - first]
        return usable

    def first_tr(self, scan: Scan) -> int:
        """Return the stimulus TR of a scan's first row; negative if that is before the film."""
        phase = self.stimuli[scan.stimulus].phases[scan.phase]
        return round(exact_first_tr(scan, phase, self.manifest.tr_seconds))

    def blob(self, path: str) -> bytes:
        """Read a blob.

        Raises
        ------
        InputError
            If it is not what was written.
        """
        (said,) = (blob for blob in self.manifest.blobs if blob.path == path)
        try:
            content = self.storage.read(path)
        except FileNotFoundError as error:
            where = self.storage.describe(path)
            raise InputError(f"{where}: no such file; run precompute again") from error
        if (found := hashlib.sha256(content).hexdigest()) != said.sha256:
            raise InputError(
                f"{self.storage.describe(path)}: changed since the data set was made, or damaged: "
                f"checksum {found[:12]}, the manifest says {said.sha256[:12]}; run precompute again"
            )
        return content

    def space(self, subject: str) -> Space:
        """Return what a subject's units are.

        Raises
        ------
        InputError
            If its files are not what was written.
        """
        # Here, so that data are planned without the libraries of images.
        from giblet_ray.spaces.kinds import open_space

        whose = self.manifest.subjects[subject]
        files = {role: self.blob(path) for role, path in whose.space.blobs.items()}
        return open_space(whose.space.kind, files, whose.n_units, self.storage.location)

    def unit_names(self, subject: str) -> list[str] | None:
        """Return what a subject's units are called, in their order; None if they have no names.

        Raises
        ------
        InputError
            If they are not what was written.
        """
        of_subject = self.manifest.subjects[subject]
        if (path := of_subject.unit_names) is None:
            return None
        content = self.blob(path)
        try:
            names = [str(name) for name in json.loads(content)]
        except (TypeError, ValueError) as error:
            where = self.storage.describe(path)
            raise InputError(f"{where}: is no list of names: {one_line(error)}") from error
        if len(names) != of_subject.n_units:
            raise InputError(
                f"{self.storage.describe(path)}: names {len(names)} units, where subject {subject} "
                f"has {of_subject.n_units}"
            )
        return names

    def part_blob(self, part: str, name: str) -> bytes:
        """Read a file that stands beside a part's rows.

        Raises
        ------
        InputError
            If there is none, or it is not what was written.
        """
        path = self.manifest.parts[part].blobs.get(name)
        if path is None:
            raise InputError(
                f"{self.storage.describe(part)}: the data set keeps no {name} of it; run "
                "precompute again, into another folder"
            )
        return self.blob(path)

    def checked_subjects(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """Return the chosen subjects, or all if none is chosen.

        Raises
        ------
        InputError
            If one is not in the data set.
        """
        for subject in subjects:
            if subject not in self.subjects:
                raise InputError(
                    f"--data.subjects: {subject!r} is not in {self.storage.location}"
                    f"{nearest(subject, self.subjects)}; it has {', '.join(self.subjects)}"
                )
        return tuple(subjects) or self.subjects

    def row_groups(self, parts: Collection[str] = ()) -> list[Span]:
        """Return the span of every row group, stimulus by stimulus and phase by phase.

        All phases of a stimulus have the same TRs, which reach as far as the longest scan's BOLD.
        Stimuli that lack all of `parts` are left out.
        """
        return self.at_row_groups(
            Span(stimulus.name, 0, self.bold_trs[stimulus.name], phase)
            for stimulus in self.manifest.stimuli
            if not parts or stimulus.shards.keys() & set(parts)
            for phase in range(len(stimulus.phases))
        )

    def at_row_groups(self, spans: Iterable[Span]) -> list[Span]:
        """Return spans cut at the edges of row groups: what is cheapest to read at a time."""
        step = self.manifest.row_group_trs
        return [
            Span(span.stimulus, max(span.start, edge), min(span.stop, edge + step), span.phase)
            for span in spans
            for edge in range(span.start // step * step, span.stop, step)
        ]

    def read(self, span: Span, selection: Selection) -> pa.Table:
        """Read a span of TRs of a stimulus, at one of its phases, as one table.

        Parameters
        ----------
        span : Span
            Any TRs of one stimulus; whole row groups are cheapest.
        selection : Selection
            What of each row is wanted.

        Returns
        -------
        Table
            Columns stimulus (string), phase (int32), tr (int32: the stimulus's TR), and one binary
            column for each of ``selection.columns``. BOLD is null where a subject has no scan of
            the stimulus, or none of its TR; it is that of all scans, whichever phase they see. A
            part is null where the stimulus lacks it, and after its end.

        Raises
        ------
        InputError
            If a file is not what the manifest says, or damaged.
        """
        names = pa.array([span.stimulus]).dictionary_encode()
        columns: dict[str, pa.Array] = {
            "stimulus": names.take(pa.array(np.zeros(len(span), np.int8))),
            "phase": pa.array(np.full(len(span), span.phase, np.int32)),
            "tr": pa.array(np.arange(span.start, span.stop, dtype=np.int32)),
        }
        for part in selection.parts:
            columns[part] = self._part_rows(span, part, selection.leading.get(part))
        for subject, repeat in selection.series:
            kind = selection.value_type(self, bold_column(subject))
            scan = self.scans.get(ScanKey(subject, span.stimulus, repeat))
            values = None if scan is None else self._bold_rows(span, scan, selection)
            if values is None:
                values = pa.nulls(len(span), pa.binary(kind.nbytes))
            columns[bold_column(subject, repeat)] = values
        fields = [
            selection.value_type(self, name).field(name)
            if name in selection.columns
            else pa.field(name, array.type)
            for name, array in columns.items()
        ]
        return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))

    def read_shard(
        self, shard: Shard, labels: dict[str, str], n_trs: int, start: int, stop: int
    ) -> pa.FixedSizeBinaryArray:
        """Read rows [start, stop) of one file.

        Parameters
        ----------
        shard : Shard
            Which file.
        labels : dict of str
            What it is of; see :func:`giblet_ray.dataset.layout.stimulus_labels`.
        n_trs : int
            Rows in the file.
        start, stop : int
            Rows that are read.

        Raises
        ------
        InputError
            If it is not what the manifest says, or damaged, or holds what no model can be given.
        """
        part = labels["part"]
        kind = self.value_type(bold_column(labels["subject"]) if part == "bold" else part)
        content = ShardContent(kind, labels, n_trs, self.manifest.row_group_trs)
        values = read_trs(self.storage, shard, content, start, stop)
        if part != "bold":
            where = self.storage.describe(shard.path)
            reading = find_reading(self.manifest.parts[part].encoder, where)
            reading.check(as_arrays(values, kind), where, start)
        return values

    def _part_rows(self, span: Span, part: str, leading: int | None) -> pa.FixedSizeBinaryArray:
        phase = self.stimuli[span.stimulus].phases[span.phase]
        shard = phase.shards.get(part)
        labels = stimulus_labels(part, span.stimulus, span.phase)
        stop = min(span.stop, phase.n_trs)
        kind = self.value_type(part)
        values = pa.nulls(0, pa.binary(kind.nbytes))
        if shard is not None and span.start < stop:
            values = self.read_shard(shard, labels, phase.n_trs, span.start, stop)
        if n_past := len(span) - len(values):
            values = pa.concat_arrays([values, pa.nulls(n_past, values.type)])
        if leading is None or leading == kind.shape[0]:
            return values
        return as_binary(as_arrays(values, kind)[:, :leading])

    def _bold_rows(
        self, span: Span, scan: Scan, selection: Selection
    ) -> pa.FixedSizeBinaryArray | None:
        """Return a scan's rows for a span of TRs, null where it has none; None if it has none."""
        first = span.start - self.first_tr(scan)
        start, stop = (min(max(row, 0), scan.n_trs) for row in (first, first + len(span)))
        if start == stop:
            return None
        values = self.read_shard(scan.shard, bold_labels(scan.key), scan.n_trs, start, stop)
        if (units := selection.units.get(scan.subject)) is not None:
            rows_TV = as_arrays(values, self.value_type(bold_column(scan.subject)))
            values = as_binary(rows_TV[:, units])
        before, after = start - first, len(span) - (stop - first)
        if before or after:
            nulls = (pa.nulls(n, values.type) for n in (before, after))
            values = pa.concat_arrays([next(nulls), values, next(nulls)])
        return values
