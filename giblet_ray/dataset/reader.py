"""An open data set: what it holds, and any span of its TRs as one Arrow table."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays, as_binary
from giblet_ray.dataset.schema import (
    MANIFEST,
    Manifest,
    Scan,
    Shard,
    Stimulus,
    ValueType,
)
from giblet_ray.dataset.shard import ShardContent, read_trs
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, nearest

CODEBOOK_SIZE = 1024
"""Codes per EnCodec codebook (24 kHz model)."""
_ASKED_AT_A_TIME = 16
"""Files whose size is asked for at a time: an object store takes 10 to 100 ms to answer."""


@dataclass(frozen=True)
class Span:
    """The TRs [start, stop) of one stimulus."""

    stimulus: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Selection:
    """Which part of each row is read.

    Attributes
    ----------
    parts : tuple of str
        Parts of the stimulus: frames, codes, mel, text.
    subjects : tuple of str
        Whose BOLD is read.
    n_codebooks : int or None
        Read the first codebooks only (None: all).
    voxels : ndarray of int or None
        Indices of the voxels that are read (None: all).
    lag_trs : int
        BOLD in the row of stimulus TR t is that of TR t + lag_trs.
    """

    parts: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    n_codebooks: int | None = None
    voxels: np.ndarray | None = None
    lag_trs: int = 0

    def row_bytes(self, dataset: Dataset) -> int:
        """Return the bytes of one row, its identity aside."""
        return sum(kind.nbytes for kind in self.value_types(dataset).values())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the value columns: the parts, and ``bold/SUBJECT`` for each subject."""
        return (*self.parts, *map(bold_column, self.subjects))

    def value_types(self, dataset: Dataset) -> dict[str, ValueType]:
        """Return the shape and dtype of every value column's arrays, as selected."""
        return {column: self.value_type(dataset, column) for column in self.columns}

    def value_type(self, dataset: Dataset, column: str) -> ValueType:
        """Return the shape and dtype of a column's arrays, as selected."""
        part = column.partition("/")[0]
        kind = dataset.manifest.values[part]
        if part == "codes" and self.n_codebooks is not None:
            return kind.model_copy(update={"shape": (self.n_codebooks, *kind.shape[1:])})
        if part == "bold" and self.voxels is not None:
            return kind.model_copy(update={"shape": (len(self.voxels),)})
        return kind


def bold_column(subject: str) -> str:
    """Return the name of a subject's BOLD column in a block."""
    return f"bold/{subject}"


@dataclass(frozen=True)
class Dataset:
    """A data set whose manifest has been read and whose files are there.

    Pickles, so that read tasks can carry it.
    """

    storage: Storage
    manifest: Manifest
    stimuli: dict[str, Stimulus] = field(repr=False)
    scans: dict[tuple[str, str], Scan] = field(repr=False)

    @classmethod
    def open(cls, location: str) -> Dataset:
        """Open the data set at a path or URI.

        Raises
        ------
        InputError
            If there is none, its manifest cannot be used, or a file is missing or of another
            size than the manifest says.
        """
        storage = Storage.at(location)
        try:
            text = storage.read(MANIFEST)
        except FileNotFoundError as error:
            raise InputError(
                f"{storage.describe(MANIFEST)}: no such file; a finished data set has one "
                "(jobs/precompute.py writes it last)"
            ) from error
        manifest = Manifest.from_json(text, storage.describe(MANIFEST))
        dataset = cls(
            storage,
            manifest,
            {stimulus.name: stimulus for stimulus in manifest.stimuli},
            {(scan.subject, scan.stimulus): scan for scan in manifest.scans},
        )
        with ThreadPoolExecutor(_ASKED_AT_A_TIME) as threads:
            sizes = threads.map(lambda shard: storage.size(shard.path), dataset.shards)
            for shard, size in zip(dataset.shards, sizes, strict=True):
                if size != shard.bytes:
                    found = "no such file" if size is None else f"{size:,} bytes"
                    raise InputError(
                        f"{storage.describe(shard.path)}: {found}; the manifest says "
                        f"{shard.bytes:,} bytes: run precompute again"
                    )
        return dataset

    @property
    def shards(self) -> list[Shard]:
        """Every file of the data set."""
        parts = [shard for stimulus in self.manifest.stimuli for shard in stimulus.shards.values()]
        return parts + [scan.shard for scan in self.manifest.scans]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, sorted."""
        return tuple(sorted({subject for subject, _ in self.scans}))

    @property
    def n_voxels(self) -> int:
        """Voxels of every scan."""
        return self.manifest.values["bold"].shape[0]

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

    def row_groups(self) -> list[Span]:
        """Return the span of every row group, stimulus by stimulus."""
        step = self.manifest.row_group_trs
        return [
            Span(stimulus.name, start, min(start + step, stimulus.n_trs))
            for stimulus in self.manifest.stimuli
            for start in range(0, stimulus.n_trs, step)
        ]

    def read(self, span: Span, selection: Selection) -> pa.Table:
        """Read a span of TRs as one table.

        Parameters
        ----------
        span : Span
            Any TRs of one stimulus; whole row groups are cheapest.
        selection : Selection
            What of each row is wanted.

        Returns
        -------
        Table
            Columns stimulus (string), tr (int32: the stimulus's TR), and one binary column for
            each of ``selection.columns``. BOLD is null where a subject has no scan of the
            stimulus, or none of TR t + lag.

        Raises
        ------
        InputError
            If a file is not what the manifest says, or damaged.
        """
        stimulus = self.stimuli[span.stimulus]
        names = pa.array([span.stimulus]).dictionary_encode()
        columns: dict[str, pa.Array] = {
            "stimulus": names.take(pa.array(np.zeros(len(span), np.int8))),
            "tr": pa.array(np.arange(span.start, span.stop, dtype=np.int32)),
        }
        for part in selection.parts:
            labels = {"part": part, "stimulus": span.stimulus}
            shard = stimulus.shards.get(part)  # type: ignore[call-overload]
            if shard is None:
                raise InputError(
                    f"{self.storage.location}: stimulus {span.stimulus} has no {part}/"
                )
            values = self._values(shard, stimulus, labels, span.start, span.stop)
            if part == "codes":
                values = self._codebooks(values, shard, selection.n_codebooks)
            columns[part] = values
        start = min(span.start + selection.lag_trs, stimulus.n_trs)
        stop = min(span.stop + selection.lag_trs, stimulus.n_trs)
        for subject in selection.subjects:
            column = bold_column(subject)
            kind = selection.value_type(self, column)
            scan = self.scans.get((subject, span.stimulus))
            if scan is None or start == stop:
                columns[column] = pa.nulls(len(span), pa.binary(kind.nbytes))
                continue
            labels = {"part": "bold", "stimulus": span.stimulus, "subject": subject}
            values = self._values(scan.shard, stimulus, labels, start, stop)
            if selection.voxels is not None:
                rows_TV = as_arrays(values, self.manifest.values["bold"])
                values = as_binary(rows_TV[:, selection.voxels])
            if missing := len(span) - len(values):
                values = pa.concat_arrays([values, pa.nulls(missing, values.type)])
            columns[column] = values
        fields = [
            selection.value_type(self, name).field(name)
            if name in selection.columns
            else pa.field(name, array.type)
            for name, array in columns.items()
        ]
        return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))

    def _values(
        self, shard: Shard, stimulus: Stimulus, labels: dict[str, str], start: int, stop: int
    ) -> pa.FixedSizeBinaryArray:
        """Read TRs [start, stop) from one file."""
        kind = self.manifest.values[labels["part"]]
        content = ShardContent(kind, labels, stimulus.n_trs, self.manifest.row_group_trs)
        return read_trs(self.storage, shard, content, start, stop)

    def _codebooks(
        self, values: pa.FixedSizeBinaryArray, shard: Shard, n_codebooks: int | None
    ) -> pa.FixedSizeBinaryArray:
        codes_TKF = as_arrays(values, self.manifest.values["codes"])
        # As unsigned numbers, negative codes are large: one comparison finds both.
        if codes_TKF.view(np.uint16).max() >= CODEBOOK_SIZE:
            bad = codes_TKF[(codes_TKF < 0) | (codes_TKF >= CODEBOOK_SIZE)][0]
            raise InputError(
                f"{self.storage.describe(shard.path)}: code {bad}; 0 to {CODEBOOK_SIZE - 1} "
                "are accepted"
            )
        if n_codebooks is None or n_codebooks == codes_TKF.shape[1]:
            return values
        return as_binary(codes_TKF[:, :n_codebooks])
