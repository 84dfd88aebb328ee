"""The space of each subject's units, kept beside the shards of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from giblet_ray.dataset.storage import Storage, short_sha256
from giblet_ray.dataset.stored import StoredSpace, WrittenFile
from giblet_ray.dataset.writer import write_blob
from giblet_ray.precompute.units import Unit
from giblet_ray.spaces.kinds import space_of_scan

_UNIT_NAMES = "unit_names.json"


@dataclass(frozen=True)
class KeptSpaces:
    """What is written of spaces."""

    of_subjects: dict[str, StoredSpace]
    """By subject."""
    unit_names: dict[str, str]
    """Path of the names of the units, by subject whose units have names."""
    blobs: tuple[WrittenFile, ...]
    """The files that they name."""


def keep_spaces(storage: Storage, units: Sequence[Unit]) -> KeptSpaces:
    """Write the space of each subject whose scans are made; the same file is written once.

    Parameters
    ----------
    storage : Storage
        The data set's folder.
    units : sequence of Unit
        What there is to make; of each subject's scans, the first tells the space.
    """
    of_subjects: dict[str, StoredSpace] = {}
    unit_names: dict[str, str] = {}
    blobs: dict[str, WrittenFile] = {}

    def keep(file: str, content: bytes) -> str:
        name = f"{short_sha256(content)}-{file}"
        if name not in blobs:
            blobs[name] = write_blob(storage, name, content)
        return blobs[name].path

    for unit in units:
        if not unit.subject or unit.subject in of_subjects:
            continue
        space = space_of_scan(unit.files["scan"], **unit.choosing)
        paths = {file: keep(file, content) for file, content in space.files().items()}
        of_subjects[unit.subject] = StoredSpace(kind=space.kind, blobs=paths)
        if space.unit_names is not None:
            names = json.dumps(space.unit_names).encode()
            unit_names[unit.subject] = keep(_UNIT_NAMES, names)
    return KeptSpaces(of_subjects, unit_names, tuple(blobs.values()))
