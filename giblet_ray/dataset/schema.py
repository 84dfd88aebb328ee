"""What a data set is made of: the folder's layout, the rows, and the manifest.

::

    DATASET/
      manifest.json                     written last: without it there is no data set
      codes/STIMULUS.parquet            one row per TR of the stimulus
      frames/STIMULUS.parquet
      text/STIMULUS.parquet
      mel/STIMULUS.parquet              on request
      bold/SUBJECT/STIMULUS.parquet     one row per TR of the scan

Every row holds its TR's number and one value: the bytes of a C-contiguous little-endian array,
whose dtype and shape stand in the Arrow field's metadata. Row groups begin at the same TRs in
every file, so that one read task opens the same row group of each; the manifest has a checksum of
each one's content, so that a reader that is given other numbers notices.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field, ValidationError, model_validator

from giblet_ray.errors import InputError
from giblet_ray.names import checked_name
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"

StimulusPart = Literal["frames", "codes", "mel", "text"]
STIMULUS_PARTS: tuple[StimulusPart, ...] = ("frames", "codes", "mel", "text")


class Source(Group):
    """A file that something was made from."""

    name: str
    """File name, without its folder."""
    sha256: str
    """Checksum of its content."""


class WrittenFile(Group):
    """A file below a folder that was written whole."""

    path: str
    """Path below the folder."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Checksum of the file."""


class Shard(WrittenFile):
    """One Parquet file of the data set."""

    row_groups: tuple[str, ...]
    """Checksum of each row group's content, which readers compare: :func:`row_group_checksum`."""


class Stimulus(Group):
    """One film or film part."""

    name: str
    n_trs: int = Field(ge=1)
    """Whole TRs that it covers."""
    silent_trs: int = Field(ge=0)
    """TRs in which nothing is said: zero vectors in text/."""
    sources: dict[str, Source]
    """film and text."""
    shards: dict[StimulusPart, Shard]


class Scan(Group):
    """One subject watching one stimulus, once."""

    subject: str
    stimulus: str
    nan_voxels: int = Field(ge=0)
    """Voxels with a value that is not finite at any TR."""
    constant_voxels: int = Field(ge=0)
    """Voxels that never change."""
    source: Source
    shard: Shard


class Manifest(Group):
    """Everything about a data set but its numbers."""

    schema_version: int = SCHEMA_VERSION
    tr_seconds: float = Field(gt=0)
    """Duration of one TR (s)."""
    row_group_trs: int = Field(ge=1)
    """TRs per row group."""
    values: dict[str, ValueType]
    """What one row holds, by part: frames, codes, mel, text, bold."""
    stimuli: tuple[Stimulus, ...]
    scans: tuple[Scan, ...]
    provenance: dict[str, Any]
    """How each part was made: settings, libraries and their versions, weights and checksums."""

    def to_json(self) -> bytes:
        """Return the manifest as JSON, with a checksum of its own content."""
        content = self.model_dump(mode="json")
        return json.dumps({**content, "checksum": _checksum(content)}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Self:
        """Read and verify a manifest.

        Parameters
        ----------
        text : bytes
            Content of the file.
        where : str
            Location of the file, for messages.

        Raises
        ------
        InputError
            If it is not JSON, of another schema version, edited, or lacks a field.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{where}: found {type(content).__name__}, accepted: a manifest")
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r} is unknown; this release reads "
                f"{SCHEMA_VERSION}: run precompute again"
            )
        said = content.pop("checksum", None)
        if said != (found := _checksum(content)):
            raise InputError(
                f"{where}: its content does not match its checksum ({found[:12]} against "
                f"{str(said)[:12]}): it was edited or damaged; run precompute again"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            parts = (where, field, first["msg"].removeprefix("Value error, "))
            raise InputError(": ".join(filter(None, parts))) from error

    @property
    def checksum(self) -> str:
        """Identity of the data set: a checksum over the manifest, thus over every file's."""
        return _checksum(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _is_what_a_writer_makes(self) -> Self:
        n_trs = {stimulus.name: stimulus.n_trs for stimulus in self.stimuli}
        if len(n_trs) < len(self.stimuli):
            raise ValueError("a stimulus is listed twice")
        shards = [
            (stimulus_shard(part, stimulus.name), stimulus.name, shard)
            for stimulus in self.stimuli
            for part, shard in stimulus.shards.items()
        ]
        for scan in self.scans:
            checked_name(scan.subject, "subject")
            shards.append((bold_shard(scan.subject, scan.stimulus), scan.stimulus, scan.shard))
        if len({path for path, _, _ in shards}) < len(shards):
            raise ValueError("a scan is listed twice")
        for path, name, shard in shards:
            checked_name(name, "stimulus")
            if shard.path != path:
                raise ValueError(f"names {shard.path!r} where {path} belongs")
            if name not in n_trs:
                raise ValueError(f"{path}: there is no stimulus {name}")
            if (part := path.partition("/")[0]) not in self.values:
                raise ValueError(f"{path}: says nothing of what {part} is")
            n_groups = math.ceil(n_trs[name] / self.row_group_trs)
            if len(shard.row_groups) != n_groups:
                raise ValueError(
                    f"{path}: {n_trs[name]} TRs are {n_groups} row groups; it has checksums of "
                    f"{len(shard.row_groups)}"
                )
        return self


def row_group_checksum(trs: np.ndarray, values: np.ndarray) -> str:
    """Return the xxh3_128 of a row group's content, in hexadecimal.

    Parameters
    ----------
    trs : ndarray of int32, shape (rows,)
        The column ``tr``.
    values : ndarray, shape (rows, ...)
        The arrays of the column ``value``, C-contiguous.
    """
    digest = xxhash.xxh3_128(trs.data)
    digest.update(values.data)
    return digest.hexdigest()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def shard_schema(kind: ValueType, labels: dict[str, str]) -> pa.Schema:
    """Return the columns of a shard's file, which bears what it is of as its metadata."""
    return pa.schema([pa.field("tr", pa.int32()), kind.field("value")], metadata=labels)


def stimulus_shard(part: str, stimulus: str) -> str:
    """Return the path of a stimulus's shard below the data set's folder."""
    return f"{part}/{stimulus}.parquet"


def bold_shard(subject: str, stimulus: str) -> str:
    """Return the path of a scan's shard below the data set's folder."""
    return f"bold/{subject}/{stimulus}.parquet"
