"""The kinds of space that there are, and which of them a scan or a data set means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import split_source
from giblet_ray.spaces.array import HDF5_SUFFIXES, Array
from giblet_ray.spaces.grayordinates import Grayordinates
from giblet_ray.spaces.space import Space
from giblet_ray.spaces.surface import Surface
from giblet_ray.spaces.volume import Volume

SPACES: dict[str, type[Space]] = {
    space.kind: space for space in (Array, Volume, Surface, Grayordinates)
}
"""Every kind of space, by its name."""


def space_of_scan(path: str | Path, mask: str | Path | None = None) -> Space:
    """Return what the units of a scan are.

    Raises
    ------
    InputError
        For a file that is no scan, or a NIfTI file without a mask.
    """
    file, part = split_source(path)
    kind = _kind_of(file)
    if part is not None and not file.name.lower().endswith(HDF5_SUFFIXES):
        raise InputError(f"{path}: '::' names a data set of an HDF5 file, and this is none")
    if mask is None:
        return kind.of_scan(file, part)
    if kind not in (Array, Volume):
        raise InputError(f"{file}: its units are no voxels, and --mask {mask} chooses voxels")
    return Volume.of_mask(mask)


def files_of_scan(path: str | Path) -> tuple[str, ...]:
    """Return all files of which a scan is; the first, with the part of it that is meant, names it.

    Raises
    ------
    InputError
        For a file that is no scan, or one whose other file is missing.
    """
    file, part = split_source(path)
    files = _kind_of(file).files_of(file)
    return tuple(map(str, files)) if part is None else (str(path),)


def whole_scans(paths: Iterable[str]) -> tuple[str, ...]:
    """Return each scan once, by its first file, where several of its files are named."""
    return tuple(dict.fromkeys(files_of_scan(path)[0] for path in paths))


def _kind_of(file: Path) -> type[Space]:
    """Return the kind of the longest of the suffixes that a scan's name ends with."""
    kinds = {suffix: kind for kind in SPACES.values() for suffix in kind.suffixes}
    fitting = [suffix for suffix in kinds if file.name.lower().endswith(suffix)]
    if not fitting:
        accepted = ", ".join(kinds)
        raise InputError(f"{file}: extension is not known for a scan; accepted: {accepted}")
    return kinds[max(fitting, key=len)]


def open_space(kind: str, files: Mapping[str, bytes], n_units: int, where: str) -> Space:
    """Return the space that a data set or a record keeps.

    Parameters
    ----------
    kind : str
        Its kind.
    files : mapping of str to bytes
        Content of its files, by name.
    n_units : int
        Units that it must have.
    where : str
        Data set or record, for messages.

    Raises
    ------
    InputError
        If there is no such kind, or the files are of none.
    """
    if kind not in SPACES:
        raise InputError(
            f"{where}: space {kind!r} is not known{nearest(kind, list(SPACES))}; "
            f"{', '.join(SPACES)} are accepted"
        )
    return SPACES[kind].from_files(files, n_units, where)
