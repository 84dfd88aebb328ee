"""What a data set holds, one by one, as its manifest describes it.

A scan's volumes need not begin with its film, and its film not with a volume. The rows of a
stimulus are cut at the TRs of the scans, once for each way in which the two lie (*phase*)::

    film            |=====================================|
    phase 0         0     1     2     3     4     5             begins with the film
    phase 1            0     1     2     3     4     5          begins phase.seconds into it
    a scan       0     1     2     3     4     5     6          onset_seconds = TR - phase.seconds:
                    |-->|                                       its row 1 is row 0 of phase 1
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


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
    """Checksum of each row group's content, which readers compare."""


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


def exact_first_tr(scan: Scan, phase: Phase, tr_seconds: float) -> float:
    """Return the TR of a stimulus that a scan's first row belongs to, a whole number but for
    rounding; negative if that is before the film."""
    return -(scan.onset_seconds + phase.seconds) / tr_seconds
