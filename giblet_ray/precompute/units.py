"""What there is to make: one unit per shard, and the record that a finished shard leaves.

A unit's fingerprint covers all that decides its shard's content: settings, checksums of the
files it is made from, and library versions. A shard whose record bears the fingerprint, and whose
checksum is the record's, need not be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from pydantic import Field

from giblet_ray.dataset.schema import (
    ScanKey,
    Shard,
    Source,
    ValueType,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import value_type, write_shard
from giblet_ray.settings import Group

Part = Literal["frames", "codes", "mel", "text", "bold"]

LIBRARIES: dict[Part, tuple[str, ...]] = {
    "frames": ("av",),
    "codes": ("av", "encodec", "torch"),
    "mel": ("av", "numpy", "scipy"),
    "text": ("openpyxl", "pysubs2"),
    "bold": ("h5py", "nibabel", "nilearn", "numpy"),
}
"""Packages that make each part; the embedder says by itself what it is made of."""

WORK = "_work"
"""Folder, below the data set's, of what only an unfinished data set has."""


class Unit(Group):
    """One shard to make. Travels to workers as JSON."""

    part: Part
    stimulus: str
    subject: str = ""
    """Whose BOLD (part bold)."""
    repeat: int = 1
    """Which time they saw the stimulus."""
    n_trs: int = Field(ge=1)
    tr_seconds: float
    row_group_trs: int
    files: dict[str, str]
    """Files to read, by role (film, text, scan, mask, confounds); ``file::part`` is allowed."""
    settings: dict[str, Any]
    """Settings of the part."""
    nbytes: int
    """Bytes of the values, which a worker holds in memory and then writes."""
    fingerprint: str

    @property
    def path(self) -> str:
        """Path of the shard below the data set's folder."""
        if self.part == "bold":
            return bold_shard(self.subject, self.stimulus, self.repeat)
        return stimulus_shard(self.part, self.stimulus)

    @property
    def labels(self) -> dict[str, str]:
        """What the shard is of."""
        if self.part == "bold":
            return bold_labels(ScanKey(self.subject, self.stimulus, self.repeat))
        return stimulus_labels(self.part, self.stimulus)


class Record(Group):
    """A finished shard, and what is known of it."""

    fingerprint: str
    shard: Shard
    value: ValueType
    made_with: dict[str, Any]
    """What decides whether a trained model may be used with this shard."""
    facts: dict[str, Any]
    """Counts and measurements."""


def libraries(part: Part) -> dict[str, str]:
    """Return the versions of the packages that make a part."""
    return {name: version(name) for name in (*LIBRARIES[part], "giblet_ray")}


def new_unit(sources: Mapping[str, Source], **fields: Any) -> Unit:
    """Return a unit with its fingerprint.

    Parameters
    ----------
    sources : mapping of str to Source
        Checksum of each of the unit's files, by the name in ``files``: where they lie does not
        matter, only what they hold.
    **fields
        The unit's other fields.
    """
    content = {name: value for name, value in fields.items() if name != "files"}
    content["libraries"] = libraries(fields["part"])
    content["files"] = {
        role: [sources[file].sha256, file.partition("::")[2]]
        for role, file in fields["files"].items()
    }
    return Unit(fingerprint=digest(content), **fields)


def digest(content: Any) -> str:
    """Return the SHA-256 of JSON content, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def record_path(shard_path: str) -> str:
    """Return where the record of a shard of an unfinished data set is."""
    return f"{WORK}/{shard_path}.json"


def finish(
    storage: Storage,
    unit: Unit,
    values: np.ndarray,
    made_with: dict[str, Any],
    facts: dict[str, Any] | None = None,
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
        facts=facts or {},
    )
    write_record(storage, record)
    return record


def write_record(storage: Storage, record: Record) -> None:
    """Note that a shard is finished."""
    with storage.write(record_path(record.shard.path)) as stream:
        stream.write(record.model_dump_json().encode())
