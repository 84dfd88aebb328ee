"""Whether there is room for files where they will be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from pyarrow import fs as pafs

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.preflight.need import gigabytes


def disk_room(storage: Storage, needed: int, setting: str) -> str:
    """Compare what will be written with what is free, where that is a disk of this machine.

    Parameters
    ----------
    storage : Storage
        Where to; it need not be there yet.
    needed : int
        Bytes to be written.
    setting : str
        The setting that says where, for messages.

    Raises
    ------
    InputError
        If it is too much.
    """
    if not isinstance(storage.filesystem, pafs.LocalFileSystem):
        return f"{gigabytes(needed)} in {storage.location}, whose free room is not known"
    root = Path(storage.root)
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    said = f"{gigabytes(needed)} in {storage.location}, where {gigabytes(free)} are free"
    if needed > free:
        raise InputError(f"{setting}: {said}; make room, or give another place")
    return said
