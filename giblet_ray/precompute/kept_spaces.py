"""The space of each subject's units, kept beside the shards of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import StoredSpace, WrittenFile
from giblet_ray.dataset.writer import write_blob
from giblet_ray.precompute.units import Unit
from giblet_ray.spaces.kinds import space_of_scan


@dataclass(frozen=True)
class KeptSpaces:
    """What is written of spaces.

    Attributes
    ----------
    of_subjects : dict of str to StoredSpace
        By subject.
    blobs : tuple of WrittenFile
        The files that they name.
    """

    of_subjects: dict[str, StoredSpace]
    blobs: tuple[WrittenFile, ...]


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
    blobs: dict[str, WrittenFile] = {}
    for unit in units:
        if not unit.subject or unit.subject in of_subjects:
            continue
        space = space_of_scan(unit.files["scan"], unit.files.get("mask"))
        paths = {}
        for file, content in space.files().items():
            name = f"{hashlib.sha256(content).hexdigest()[:12]}-{file}"
            if name not in blobs:
                blobs[name] = write_blob(storage, name, content)
            paths[file] = blobs[name].path
        of_subjects[unit.subject] = StoredSpace(kind=space.kind, blobs=paths)
    return KeptSpaces(of_subjects, tuple(blobs.values()))
