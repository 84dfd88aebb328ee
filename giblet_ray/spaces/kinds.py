"""The kinds of space that there are, and which of them a scan or a data set means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import split_source
from giblet_ray.spaces.array import HDF5_SUFFIXES, Array
from giblet_ray.spaces.space import Space
from giblet_ray.spaces.volume import NIFTI_SUFFIXES, Volume

SPACES: dict[str, type[Space]] = {space.kind: space for space in (Array, Volume)}
"""Every kind of space, by its name."""

SCAN_SUFFIXES = (*NIFTI_SUFFIXES, *Array.suffixes)


def space_of_scan(path: str | Path, mask: str | Path | None) -> Space:
    """Return what the units of a scan are.

    Raises
    ------
    InputError
        For a file that is no scan, or a NIfTI file without a mask.
    """
    file, part = split_source(path)
    name = file.name.lower()
    if not name.endswith(SCAN_SUFFIXES):
        accepted = ", ".join(SCAN_SUFFIXES)
        raise InputError(f"{file}: extension is not known for a scan; accepted: {accepted}")
    if part is not None and not name.endswith(HDF5_SUFFIXES):
        raise InputError(f"{path}: '::' names a data set of an HDF5 file, and this is none")
    if mask is not None:
        return Volume.of_mask(mask)
    if name.endswith(NIFTI_SUFFIXES):
        raise InputError(
            f"{file}: a NIfTI scan needs a --mask, a 3-D NIfTI file of the voxels to take"
        )
    return Array.of_scan(file, part)


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
