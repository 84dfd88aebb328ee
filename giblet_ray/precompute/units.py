"""What there is to make: one unit per shard, and the record that a finished shard leaves.

A unit's fingerprint covers all that decides its shard's content: settings, checksums of the
files it is made from, and library versions. A shard whose record bears the fingerprint, and whose
checksum is the record's, need not be made again.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from pydantic import Field

from giblet_ray.dataset.layout import (
    ScanKey,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Shard
from giblet_ray.dataset.writer import value_type, write_shard
from giblet_ray.parts.part import FilmFiles
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group
from giblet_ray.spaces.kinds import CHOOSING

BOLD = "bold"
"""Part of the units that are scans."""

_FLOAT_BYTES = 4

WORK = "_work"
"""Folder, below the data set's, of what only an unfinished data set has."""


class Repeat(Group):
    """One of the scans that a shard of BOLD is the mean of."""

    files: dict[str, str]
    """Roles in the unit's files of what is read, by what it is: scan, confounds."""
    volumes: tuple[int, int]
    """Volumes of its file, first and the one after the last."""
    scrubbed: tuple[int, ...]
    """Those that are not used."""
    confounds: tuple[str, ...]
    """Columns that are regressed out."""
    row: int
    """Row of the shard that the first of its volumes is."""


class Unit(Group):
    """One shard to make. Travels to workers as JSON."""

    part: str
    """Name of the part, or bold."""
    stimulus: str
    subject: str = ""
    """Whose BOLD (part bold)."""
    repeat: int = 1
    """Which time they saw the stimulus."""
    phase: int = 0
    """Which of the stimulus's phases the rows are, or the scan sees."""
    start_seconds: float = 0.0
    """Time of the film at which that phase's first TR begins (s)."""
    volumes: tuple[int, int] = (0, 1)
    """Volumes of the scan's file, first and the one after the last (part bold)."""
    onset_seconds: float = 0.0
    """When the film begins, after the first of these volumes (s)."""
    scrubbed: tuple[int, ...] = ()
    """Volumes of the file that neither train nor judge."""
    repeats: tuple[Repeat, ...] = ()
    """Scans of one subject and stimulus that it is the mean of (part bold); none: it is one scan's
    own."""
    n_read: int = 0
    """Numbers of a TR that are held to make its units, as of all voxels of parcels."""
    n_trs: int = Field(ge=1)
    tr_seconds: float
    film_seconds: float
    """Length of the film (s)."""
    row_group_trs: int
    files: dict[str, str]
    """Files to read, by role (film, text, scan, mask, ...); ``file::part`` is allowed."""
    sha256: dict[str, str]
    """Checksum of each file, by role."""
    settings: dict[str, Any]
    """Settings of the part that decide its values."""
    libraries: dict[str, str]
    """Versions of the packages that make it."""
    value: ValueType
    """What one row will hold."""

    @property
    def nbytes(self) -> int:
        """Bytes of the values, which a worker writes."""
        return self.n_trs * self.value.nbytes

    @property
    def held_bytes(self) -> int:
        """Bytes that a worker holds in memory at a time: the values, or what they are made of."""
        at_once = max(self.nbytes, _FLOAT_BYTES * self.n_trs * self.n_read)
        return 3 * at_once if self.repeats else at_once

    @property
    def fingerprint(self) -> str:
        """What decides the shard: where files lie does not matter, only what they hold."""
        content = self.model_dump(mode="json", exclude={"files"})
        # A file's part, as in scan.h5::bold, is not in the file's checksum.
        content["chosen"] = {role: file.partition("::")[2] for role, file in self.files.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def choosing(self) -> dict[str, str]:
        """Files that say what the units of a scan are, by role."""
        return {role: file for role, file in self.files.items() if role in CHOOSING}

    @property
    def film(self) -> FilmFiles:
        """The film, with the files that the part is made from."""
        return FilmFiles(
            name=self.stimulus,
            n_trs=self.n_trs,
            tr_seconds=self.tr_seconds,
            start_seconds=self.start_seconds,
            seconds=self.film_seconds,
            files=self.files,
            sha256=self.sha256,
        )

    @property
    def path(self) -> str:
        """Path of the shard below the data set's folder."""
        if self.part == BOLD:
            return bold_shard(self.subject, self.stimulus, self.repeat)
        return stimulus_shard(self.part, self.stimulus, self.phase)

    @property
    def labels(self) -> dict[str, str]:
        """What the shard is of."""
        if self.part == BOLD:
            return bold_labels(ScanKey(self.subject, self.stimulus, self.repeat))
        return stimulus_labels(self.part, self.stimulus, self.phase)


class Record(Group):
    """A finished shard, and what is known of it."""

    fingerprint: str
    shard: Shard
    value: ValueType
    made_with: dict[str, Any]
    """What decides whether a trained model may be used with this shard."""
    facts: dict[str, Any]
    """Counts and measurements."""


def record_path(shard_path: str) -> str:
    """Return where the record of a shard of an unfinished data set is."""
    return f"{WORK}/{shard_path}.json"


def finish(
    storage: Storage,
    unit: Unit,
    values: np.ndarray,
    made_with: dict[str, Any],
    facts: dict[str, Any],
) -> Record:
    """Write a unit's shard and then its record.

    Parameters
    ----------
    storage : Storage
        The data set's folder.
    unit : Unit
        What the values are of.
    values : ndarray, shape (n_trs, ...)
        One array per TR.
    made_with, facts : dict
        See :class:`Record`.
    """
    shard = write_shard(storage, unit.path, values, unit.row_group_trs, unit.labels)
    record = Record(
        fingerprint=unit.fingerprint,
        shard=shard,
        value=value_type(values),
        made_with=made_with,
        facts=facts,
    )
    write_record(storage, record)
    return record


def write_record(storage: Storage, record: Record) -> None:
    """Note that a shard is finished."""
    with storage.write(record_path(record.shard.path)) as stream:
        stream.write(record.model_dump_json().encode())
