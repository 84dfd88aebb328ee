"""Whether the files of a checkpoint are those that its record knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import xxhash

from giblet_ray.checkpoint.record import RECORD, read_record
from giblet_ray.errors import InputError

_HASH_BLOCK_BYTES = 4 * 2**20


def file_checksum(path: Path) -> str:
    """Return the xxh3_128 of a local file, in hexadecimal."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def damage(
    folder: Path, names: Iterable[str] | None = None, where: str | None = None
) -> str | None:
    """Say what is wrong with a local checkpoint, or return None if it is whole.

    Parameters
    ----------
    folder : Path
        Of the checkpoint.
    names : iterable of str, optional
        Files that are looked at (default: all that the record knows).
    where : str, optional
        Where it is kept, for messages (default: the folder).
    """
    where = where or str(folder)
    try:
        known = read_record(folder).checksums
    except InputError as error:
        return str(error)
    for name in known if names is None else names:
        path = folder / name
        try:
            found = file_checksum(path)
        except FileNotFoundError:
            return f"{where}/{name}: no such file"
        except OSError as error:
            return f"{where}/{name}: cannot be read: {error.strerror}"
        if found != known.get(name):
            return (
                f"{where}/{name}: damaged: checksum {found[:12]} of {path.stat().st_size:,} bytes; "
                f"its {RECORD} says {str(known.get(name))[:12]}"
            )
    return None
