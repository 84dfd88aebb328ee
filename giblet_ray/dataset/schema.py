"""The manifest: everything about a data set but its numbers, and what is checked of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from giblet_ray.dataset.garbage import uncollected
from giblet_ray.dataset.layout import BLOBS, bold_shard, stimulus_shard
from giblet_ray.dataset.stored import (
    Scan,
    Shard,
    Stimulus,
    StoredPart,
    Subject,
    WrittenFile,
    exact_first_tr,
)
from giblet_ray.errors import InputError, first_problem
from giblet_ray.names import checked_name
from giblet_ray.settings import Group

SCHEMA_VERSION = 3

_NOT_PARTS = ("bold", BLOBS)
_ONSET_TOLERANCE_SECONDS = 1e-3


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
        with uncollected():
            return cls._from_json(text, where)

    @classmethod
    def _from_json(cls, text: bytes, where: str) -> Self:
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
            manifest = cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{where}: {first_problem(error)}") from error
        manifest.__dict__["checksum"] = found  # of millions of shards, that takes seconds
        return manifest

    @cached_property
    def checksum(self) -> str:
        """Identity of the data set: a checksum over the manifest, thus over every file's."""
        with uncollected():
            return _checksum(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields replaced, which has a checksum of its own."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("checksum", None)
        return copy

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


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
