"""Units without a place: the columns of an array (TRs, units), from .npy or HDF5 files.

Shapes: T TRs, V units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.spaces.space import RowsFile, Series, Space

HDF5_SUFFIXES = (".h5", ".hdf5", ".hf5")


class Array(Space):
    """Columns, in the order of the file.

    Parameters
    ----------
    n_units : int
        Columns.
    """

    kind = "array"
    endings = (".npy",)
    suffixes = (".npy", *HDF5_SUFFIXES)

    def __init__(self, n_units: int) -> None:
        self.n_units = n_units

    @classmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        """Return the space of an array's columns."""
        with open_array(file, part) as stored_TV:
            return cls(stored_TV.shape[1])

    def files(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        return cls(n_units)

    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        with open_array(file, part) as stored_TV:
            n_trs, n_units = stored_TV.shape
        if n_units != self.n_units:
            raise InputError(f"{file}: has {n_units} units, where {self.n_units} are expected")
        return n_trs

    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        with open_array(file, part) as stored_TV:
            return np.array(stored_TV[trs], np.float32)

    @contextmanager
    def open_files(self, streams: Sequence[IO[bytes]], series: Series) -> Iterator[RowsFile]:
        (stream,) = streams
        shape = {"descr": "<f4", "fortran_order": False, "shape": (series.n_trs, self.n_units)}
        np.lib.format.write_array_header_1_0(stream, shape)
        yield _ArrayRows(stream)

    def file_bytes(self, n_trs: int) -> int:
        return 4 * n_trs * self.n_units + 128


class _ArrayRows:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append rows."""
        self._stream.write(np.ascontiguousarray(rows_TV, "<f4").tobytes())


@contextmanager
def open_array(file: Path, part: str | None) -> Iterator[Any]:
    """Open an array file (T, V), whose values are read when it is indexed.

    Of an HDF5 file, its only 2-D data set is meant, or the one named `part`.

    Raises
    ------
    InputError
        If it cannot be read, or is no array of real numbers (T, V).
    """
    if file.name.lower().endswith(HDF5_SUFFIXES):
        import h5py

        try:
            with h5py.File(file, "r") as store:
                yield _checked_array(_hdf5_set(store, file, part), file)
        except OSError as error:
            raise InputError(f"{file}: is not a readable HDF5 file: {error}") from error
    else:
        try:
            stored_TV = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{file}: is not a readable .npy array: {error}") from error
        yield _checked_array(stored_TV, file)


def array_keys(file: Path) -> list[str]:
    """Return the names of the arrays (T, V) of an HDF5 file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    import h5py

    try:
        with h5py.File(file, "r") as store:
            return [name for name, node in _hdf5_sets(store).items() if node.ndim == 2]
    except OSError as error:
        raise InputError(f"{file}: is not a readable HDF5 file: {error}") from error


def _hdf5_sets(store: Any) -> dict[str, Any]:
    """Return all data sets of an HDF5 file, by name."""
    import h5py

    sets: dict[str, Any] = {}
    store.visititems(
        lambda name, node: sets.update({name: node}) if isinstance(node, h5py.Dataset) else None
    )
    return sets


def _hdf5_set(store: Any, file: Path, part: str | None) -> Any:
    """Find the data set of an HDF5 file: the one named, or the only one of 2 dimensions.

    A file may hold thousands, which are visited only where none is found by its name.
    """
    import h5py

    name = (part or "").strip("/")
    if name and isinstance(found := store.get(name), h5py.Dataset):
        return found
    sets = _hdf5_sets(store)
    flat = [each for each, node in sets.items() if node.ndim == 2]
    if part is None and len(flat) == 1:
        return sets[flat[0]]
    listed = ", ".join(f"{each} {node.shape}" for each, node in sets.items()) or "none"
    if part is None:
        raise InputError(
            f"{file}: {len(flat)} data sets have 2 dimensions (TRs, voxels), and one is "
            f"read; name it as {file.name}::name; data sets: {listed}"
        )
    raise InputError(f"{file}: has no data set {part!r}; data sets: {listed}")


def _checked_array(stored_TV: Any, file: Path) -> Any:
    if stored_TV.ndim != 2 or 0 in stored_TV.shape:
        raise InputError(
            f"{file}: BOLD is an array of (TRs, voxels), this one has shape {stored_TV.shape}"
        )
    if stored_TV.dtype.kind not in "fiu":
        raise InputError(f"{file}: BOLD is an array of real numbers, this one of {stored_TV.dtype}")
    return stored_TV
