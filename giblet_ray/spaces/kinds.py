"""The kinds of space that there are, and which of them a scan or a data set means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import split_source
from giblet_ray.spaces.array import HDF5_SUFFIXES, Array
from giblet_ray.spaces.grayordinates import Grayordinates
from giblet_ray.spaces.labels import Labels
from giblet_ray.spaces.parcels import Parcels
from giblet_ray.spaces.space import Space
from giblet_ray.spaces.surface import Surface
from giblet_ray.spaces.volume import Volume

SPACES: dict[str, type[Space]] = {
    space.kind: space for space in (Array, Volume, Surface, Grayordinates, Parcels)
}
"""Every kind of space, by its name."""

_CIFTI = tuple(
    f".{what}.nii" for what in ("dtseries", "dlabel", "dscalar", "ptseries", "plabel", "pscalar")
)
"""Endings of files that are no NIfTI images, though their names end as theirs."""

CHOOSING = ("mask", "atlas", "atlas_names")
"""Files beside a scan that say what its units are."""


def space_of_scan(
    path: str | Path,
    mask: str | Path | None = None,
    atlas: str | Path | None = None,
    atlas_names: str | Path | None = None,
) -> Space:
    """Return what the units of a scan are.

    Parameters
    ----------
    path : str or Path
        The scan.
    mask : str or Path, optional
        3-D NIfTI file of the voxels to take, of a scan that is a volume, or whose columns they are.
    atlas : str or Path, optional
        Label image whose regions are the units.
    atlas_names : str or Path, optional
        Table of what its labels are called.

    Raises
    ------
    InputError
        For a file that is no scan, a NIfTI file without mask and atlas, or files that do not go
        together.
    """
    file, part = split_source(path)
    kind, _ = _kind_of(file)
    if part is not None and not file.name.lower().endswith(HDF5_SUFFIXES):
        raise InputError(f"{path}: '::' names a data set of an HDF5 file, and this is none")
    if mask is not None and kind not in (Array, Volume):
        raise InputError(f"{file}: its units are no voxels, and --mask {mask} chooses voxels")
    if atlas is None:
        return kind.of_scan(file, part) if mask is None else Volume.of_mask(mask)
    image, _ = split_source(atlas)
    if mask is not None:
        base: Space = Volume.of_mask(mask)
    elif kind in (Array, Volume):
        labelled = _kind_of(image, of_labels=True)[0]
        if kind is Volume and labelled is not Volume:
            raise InputError(f"{image}: labels units of a {labelled.kind}, and {file} has voxels")
        base = labelled.of_labels(image)
    else:
        base = kind.of_scan(file, part)
    return Parcels.made_of(base, labels_of(base, image, atlas_names))


def labels_of(space: Space, atlas: str | Path, names: str | Path | None = None) -> Labels:
    """Return in which region of a label image each unit lies.

    Parameters
    ----------
    space : Space
        What the units are; a parcel lies where most of what it is made of does.
    atlas : str or Path
        The label image.
    names : str or Path, optional
        Table of what its labels are called.

    Raises
    ------
    InputError
        If it is no label image of such units, is on another grid, or has no label where they lie.
    """
    image, _ = split_source(atlas)
    kind, _ = _kind_of(image, of_labels=True)
    own = space.base if isinstance(space, Parcels) else space
    if not isinstance(own, kind):
        raise InputError(f"{image}: labels units of a {kind.kind}, and these are of a {own.kind}")
    labels = own.labels(image)
    if isinstance(space, Parcels):
        labels = space.labels_of_parcels(labels)
    if names is not None:
        labels = labels.named_by(Path(names), image)
    if not (labels.indices >= 0).any():
        raise InputError(f"{image}: none of the {space.n_units} units lies in one of its regions")
    return labels


def files_of_labels(path: str | Path) -> tuple[str, ...]:
    """Return all files of which a label image is; the first names it.

    Raises
    ------
    InputError
        For a file that is none, or one whose other file is missing.
    """
    file, _ = split_source(path)
    return tuple(map(str, _kind_of(file, of_labels=True)[0].files_of(file)))


def files_of_scan(path: str | Path) -> tuple[str, ...]:
    """Return all files of which a scan is; the first, with the part of it that is meant, names it.

    Raises
    ------
    InputError
        For a file that is no scan, or one whose other file is missing.
    """
    file, part = split_source(path)
    files = _kind_of(file)[0].files_of(file)
    return tuple(map(str, files)) if part is None else (str(path),)


def whole_scans(paths: Iterable[str]) -> tuple[str, ...]:
    """Return each scan once, by its first file, where several of its files are named."""
    whole = []
    for path in paths:
        try:
            whole.append(files_of_scan(path)[0])
        except InputError:  # told when it is read, after what is wrong with its name
            whole.append(path)
    return tuple(dict.fromkeys(whole))


def ending_of_scan(file: Path) -> str:
    """Return which of the endings of scans a name has."""
    return _kind_of(file)[1]


def _kind_of(file: Path, of_labels: bool = False) -> tuple[type[Space], str]:
    """Return the kind of a scan, or label image, by the longest ending that its name has; and it.

    Raises
    ------
    InputError
        If it has none.
    """
    kinds = {
        suffix: kind
        for kind in SPACES.values()
        for suffix in (kind.label_suffixes if of_labels else kind.suffixes)
    }
    name = file.name.lower()
    fitting = [suffix for suffix in kinds if name.endswith(suffix)]
    if name.endswith(_CIFTI) and ".nii" in fitting:
        fitting.remove(".nii")
    if not fitting:
        what, accepted = "label image" if of_labels else "scan", ", ".join(kinds)
        raise InputError(f"{file}: extension is not known for a {what}; accepted: {accepted}")
    longest = max(fitting, key=len)
    return kinds[longest], file.name[-len(longest) :]


def open_space(kind: str, files: Mapping[str, bytes], n_units: int, where: str) -> Space:
    """Return the space that a data set or a record keeps.

    Parameters
    ----------
    kind : str
        Its kind.
    files, n_units, where
        As :meth:`Space.from_files` takes them.

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
