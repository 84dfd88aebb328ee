"""What a data set is made of: the folder's layout, the rows, and the manifest.

::

    DATASET/
      manifest.json                        written last: without it there is no data set
      PART/STIMULUS.parquet                one row per TR of the stimulus: frames, codes, text, ...
      PART/PHASE/STIMULUS.parquet          its other phases, if scans see it at any
      bold/SUBJECT/STIMULUS.parquet        one row per TR of the scan
      bold/SUBJECT/REPEAT/STIMULUS.parquet the second time, the third, ...
      blobs/NAME                           what is needed once: a mask, names of units, a codebook

Every row holds its TR's number and one value: the bytes of a C-contiguous little-endian array,
whose dtype and shape stand in the Arrow field's metadata. Row groups begin at the same TRs in
every file of a stimulus; the manifest has a checksum of each one's content, so that a reader that
is given other numbers notices.

A scan's volumes need not begin with its film, and its film not with a volume. The rows of a
stimulus are cut at the TRs of the scans, once for each way in which the two lie (*phase*)::

    film            |=====================================|
    phase 0         0     1     2     3     4     5             begins with the film
    phase 1            0     1     2     3     4     5          begins phase.seconds into it
    a scan       0     1     2     3     4     5     6          onset_seconds = TR - phase.seconds:
                    |-->|                                       its row 1 is row 0 of phase 1
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field, ValidationError, model_validator

from giblet_ray.errors import InputError
from giblet_ray.names import checked_name
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
BLOBS = "blobs"

_NOT_PARTS = ("bold", BLOBS)
_ONSET_TOLERANCE_SECONDS = 1e-3


class ScanKey(NamedTuple):
    """One subject watching one stimulus, once."""

    subject: str
    stimulus: str
    repeat: int = 1
    """The first time, the second, ..."""

    def __str__(self) -> str:
        again = f", repeat {self.repeat}" if self.repeat > 1 else ""
        return f"sub {self.subject}, {self.stimulus}{again}"


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


class StoredPart(Group):
    """One part of the stimuli: what its rows hold, how they were made, how a model reads them."""

    kind: str
    """Kind of part: frames, codes, mel, text, array, or the import path of a lab's own."""
    modality: str
    """What ``data.modalities`` calls it."""
    encoder: str
    """Kind of encoder that reads it: image, codes, mel, vector."""
    value: ValueType
    """What one row holds."""
    made_with: dict[str, Any] = Field(default_factory=dict)
    """What decides whether a trained model may be used with these rows."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that it was made with."""
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that made it."""
    blobs: dict[str, str] = Field(default_factory=dict)
    """Files beside the rows, by what they are for: path below the data set's folder."""


class Phase(Group):
    """A stimulus as it is seen by the scans whose volumes begin alike."""

    seconds: float = Field(0.0, ge=0)
    """Time in the film at which the first row's TR begins (s); less than a TR."""
    n_trs: int = Field(ge=1)
    """Whole TRs that it covers."""
    silent_trs: int = Field(0, ge=0)
    """TRs in which nothing is said: zero vectors in text/."""
    shards: dict[str, Shard]
    """By part; a stimulus may lack one."""


class Stimulus(Group):
    """One film or film part."""

    name: str
    sources: dict[str, Source]
    """What it was made from: film, text, ..."""
    phases: tuple[Phase, ...] = Field(min_length=1)
    """Usually one: the film begins with a volume."""

    @property
    def n_trs(self) -> int:
        """Whole TRs of the first phase."""
        return self.phases[0].n_trs

    @property
    def silent_trs(self) -> int:
        """TRs of the first phase in which nothing is said."""
        return self.phases[0].silent_trs

    @property
    def shards(self) -> dict[str, Shard]:
        """Shards of the first phase, by part."""
        return self.phases[0].shards


class StoredSpace(Group):
    """What the units of a subject are, and how they go back to a file."""

    kind: str = "array"
    """Kind of space; see :mod:`giblet_ray.spaces`."""
    blobs: dict[str, str] = Field(default_factory=dict)
    """What the space is made of, by role: path below the data set's folder."""


class Subject(Group):
    """Whose BOLD it is."""

    value: ValueType
    """What one row of the subject's scans holds: (units,)."""
    space: StoredSpace = StoredSpace()
    unit_names: str | None = None
    """Blob of the units' names, in their order: a JSON list (default: they have none)."""

    @property
    def n_units(self) -> int:
        """Voxels, vertices or parcels."""
        return self.value.shape[0]

    @model_validator(mode="after")
    def _units_are_a_list(self) -> Self:
        if len(self.value.shape) != 1:
            raise ValueError(f"a row of BOLD is (units,), not {self.value.shape}")
        return self


class Scan(Group):
    """One subject watching one stimulus, once."""

    subject: str
    stimulus: str
    repeat: int = Field(1, ge=1)
    """The first time that the subject watched it, the second, ..."""
    volumes: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    """First volume in its file, and the one after the last: the rows of its shard."""
    onset_seconds: float = 0.0
    """When its film begins, after the first of these volumes (s); negative: before."""
    phase: int = Field(0, ge=0)
    """Which of the stimulus's phases its volumes see."""
    masked_trs: tuple[tuple[int, int], ...] = ()
    """Rows [start, stop), ..., that neither train nor judge, such as volumes without a number."""
    nan_units: int = Field(0, ge=0)
    """Units with a value that is not finite at any TR that is not masked."""
    constant_units: int = Field(0, ge=0)
    """Units that never change in the TRs that are not masked."""
    source: Source
    shard: Shard

    @property
    def key(self) -> ScanKey:
        """Which scan it is."""
        return ScanKey(self.subject, self.stimulus, self.repeat)

    @property
    def n_trs(self) -> int:
        """Rows of its shard."""
        return self.volumes[1] - self.volumes[0]

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> Self:
        edges = [0, *itertools.chain(*self.masked_trs), self.n_trs]
        rising = all(start < stop for start, stop in (self.volumes, *self.masked_trs))
        if not rising or edges != sorted(edges):
            raise ValueError(
                f"{self.key}: volumes {self.volumes} and masked TRs {self.masked_trs} are no ranges"
            )
        return self


class Manifest(Group):
    """Everything about a data set but its numbers."""

    schema_version: int = SCHEMA_VERSION
    tr_seconds: float = Field(gt=0)
    """Duration of one TR (s)."""
    row_group_trs: int = Field(ge=1)
    """TRs per row group."""
    parts: dict[str, StoredPart]
    """What the stimuli have."""
    stimuli: tuple[Stimulus, ...]
    subjects: dict[str, Subject] = Field(default_factory=dict)
    scans: tuple[Scan, ...] = ()
    blobs: tuple[WrittenFile, ...] = ()
    """Files beside the shards, which parts and subjects name."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """How the BOLD was made, and each shard: settings, libraries and versions, checksums."""

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
        for part in self.parts:
            if checked_name(part, "part") in _NOT_PARTS:
                raise ValueError(f"{part} is no name of a part")
        for subject in self.subjects:
            checked_name(subject, "subject")
        stimuli = {checked_name(each.name, "stimulus"): each for each in self.stimuli}
        if len(stimuli) < len(self.stimuli):
            raise ValueError("a stimulus is listed twice")
        for stimulus in self.stimuli:
            for index, phase in enumerate(stimulus.phases):
                if phase.seconds >= self.tr_seconds:
                    raise ValueError(
                        f"{stimulus.name}: phase {index} begins {phase.seconds:g} s into the film, "
                        f"a TR of {self.tr_seconds:g} s or more"
                    )
                for part, shard in phase.shards.items():
                    if part not in self.parts:
                        raise ValueError(f"{shard.path}: says nothing of what {part} is")
                    path = stimulus_shard(part, stimulus.name, index)
                    self._check_shard(shard, path, phase.n_trs)
        for scan in self.scans:
            self._check_scan(scan, stimuli)
        if len({scan.key for scan in self.scans}) < len(self.scans):
            raise ValueError("a scan is listed twice")
        self._check_blobs()
        return self

    def _check_scan(self, scan: Scan, stimuli: dict[str, Stimulus]) -> None:
        path = bold_shard(*scan.key)
        if scan.stimulus not in stimuli:
            raise ValueError(f"{path}: there is no stimulus {scan.stimulus}")
        if scan.subject not in self.subjects:
            raise ValueError(f"{path}: there is no subject {scan.subject}")
        phases = stimuli[scan.stimulus].phases
        if scan.phase >= len(phases):
            raise ValueError(f"{scan.key}: sees phase {scan.phase} of {len(phases)}")
        trs = exact_first_tr(scan, phases[scan.phase], self.tr_seconds)
        if abs(trs - round(trs)) * self.tr_seconds > _ONSET_TOLERANCE_SECONDS:
            raise ValueError(
                f"{scan.key}: its film begins at {scan.onset_seconds:g} s, and phase {scan.phase} "
                f"{phases[scan.phase].seconds:g} s later, which is no whole number of TRs"
            )
        self._check_shard(scan.shard, path, scan.n_trs)

    def _check_shard(self, shard: Shard, path: str, n_trs: int) -> None:
        if shard.path != path:
            raise ValueError(f"names {shard.path!r} where {path} belongs")
        n_groups = math.ceil(n_trs / self.row_group_trs)
        if len(shard.row_groups) != n_groups:
            raise ValueError(
                f"{path}: {n_trs} TRs are {n_groups} row groups; it has checksums of "
                f"{len(shard.row_groups)}"
            )

    def _check_blobs(self) -> None:
        for blob in self.blobs:
            folder, _, name = blob.path.partition("/")
            if folder != BLOBS or checked_name(name, "blob") != name:
                raise ValueError(f"names {blob.path!r} where {BLOBS}/NAME belongs")
        there = {blob.path for blob in self.blobs}
        if len(there) < len(self.blobs):
            raise ValueError("a blob is listed twice")
        named = [path for part in self.parts.values() for path in part.blobs.values()]
        for subject in self.subjects.values():
            named += subject.space.blobs.values()
            for name in subject.space.blobs:
                checked_name(name, "a space's file")
            named += [subject.unit_names] if subject.unit_names else []
        if missing := sorted(set(named) - there):
            raise ValueError(f"there is no blob {missing[0]}")


def exact_first_tr(scan: Scan, phase: Phase, tr_seconds: float) -> float:
    """Return the TR of a stimulus that a scan's first row belongs to, a whole number but for
    rounding; negative if that is before the film."""
    return -(scan.onset_seconds + phase.seconds) / tr_seconds


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


def stimulus_labels(part: str, stimulus: str, phase: int = 0) -> dict[str, str]:
    """Return what a stimulus's shard says that it is of."""
    labels = {"part": part, "stimulus": stimulus}
    return {**labels, "phase": str(phase)} if phase else labels


def bold_labels(scan: ScanKey) -> dict[str, str]:
    """Return what a scan's shard says that it is of."""
    labels = {"part": "bold", "stimulus": scan.stimulus, "subject": scan.subject}
    return {**labels, "repeat": str(scan.repeat)} if scan.repeat > 1 else labels


def stimulus_shard(part: str, stimulus: str, phase: int = 0) -> str:
    """Return the path of a stimulus's shard below the data set's folder."""
    folder = f"{part}/{phase}" if phase else part
    return f"{folder}/{stimulus}.parquet"


def bold_shard(subject: str, stimulus: str, repeat: int = 1) -> str:
    """Return the path of a scan's shard below the data set's folder."""
    return f"{bold_column(subject, repeat)}/{stimulus}.parquet"


def bold_column(subject: str, repeat: int = 1) -> str:
    """Return the name of a subject's BOLD column in a block: bold/SUBJECT, bold/SUBJECT/2, ..."""
    return f"bold/{subject}/{repeat}" if repeat > 1 else f"bold/{subject}"
