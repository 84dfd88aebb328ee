"""Parcels: regions of an atlas, each the mean of its voxels, vertices or grayordinates.

::

    scan --base space--> (TRs, voxels) --mean of each label's voxels--> (TRs, parcels)
    files like the scan <--base space-- (TRs, voxels) <--each voxel has its parcel's value--

T is the number of TRs, V of units of the base, P of parcels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.labels import Labels
from giblet_ray.spaces.packed import pack, unpack
from giblet_ray.spaces.space import RowsFile, Series, Space

_PARCELS = "parcels.json.gz"
_BLOCK_BYTES = 64 * 2**20
"""Rows that are averaged at a time, in float64."""


class Parcels(Space):
    """The regions of an atlas, in the order of their numbers.

    Scans are those of the base, or arrays whose columns are parcels already. A region that has no
    unit of the base keeps its place, and is NaN.

    Parameters
    ----------
    base : Space
        What the parcels are made of.
    index_V : ndarray of int
        Parcel of each unit of the base; -1: none.
    names : sequence of str
        What parcels are called.
    """

    kind = "parcels"
    endings: tuple[str, ...] = ()
    """Those of the base."""
    suffixes = ()

    def __init__(self, base: Space, index_V: NDArray[np.int64], names: Sequence[str]) -> None:
        self.base, self.index_V, self.unit_names = base, index_V, tuple(names)
        self.endings = base.endings
        self.n_units = len(self.unit_names)
        # Units of the base in the order of their parcels, and where in that each parcel begins.
        order_V = np.argsort(index_V, kind="stable")
        self._order_V = order_V[np.searchsorted(index_V[order_V], 0) :]
        self._present_P, self._starts_P = np.unique(index_V[self._order_V], return_index=True)

    @property
    def n_read(self) -> int:
        return self.base.n_units

    @classmethod
    def made_of(cls, base: Space, labels: Labels) -> Self:
        """Return the parcels that labels make of a space."""
        return cls(base, labels.indices, [*labels.names.values()])

    @classmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        raise InputError(f"{file}: parcels need an --atlas")

    def files(self) -> dict[str, bytes]:
        content = {
            "base": self.base.kind,
            "names": self.unit_names,
            "index": self.index_V.tolist(),
        }
        return {**self.base.files(), _PARCELS: pack(json.dumps(content).encode())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        # Imported here, since the kinds that a base may be of include this one.
        from giblet_ray.spaces.kinds import open_space

        try:
            content = json.loads(unpack(files[_PARCELS]))
            names, kind = [str(name) for name in content["names"]], str(content["base"])
            index_V = np.array(content["index"], np.int64)
        except Exception as error:  # whatever damaged bytes make of their readers
            raise InputError(
                f"{where}: its {_PARCELS} cannot be read: {one_line(error)}"
            ) from error
        if len(names) != n_units:
            raise InputError(f"{where}: has {len(names)} parcels, not {n_units}")
        is_index = index_V.ndim == 1 and ((index_V >= -1) & (index_V < n_units)).all()
        if kind == cls.kind or not is_index or not (index_V >= 0).any():
            raise InputError(f"{where}: its {_PARCELS} does not say which parcel each unit is in")
        return cls(open_space(kind, files, len(index_V), where), index_V, names)

    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        if not _is_array(file):
            return self.base.n_trs(file, part, tr_seconds)
        array = Array.of_scan(file, part)
        if array.n_units != self.n_units:
            raise InputError(
                f"{file}: has {array.n_units} columns, where the atlas has {self.n_units} labels"
            )
        return array.n_trs(file, part, tr_seconds)

    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        """See :meth:`Space.read`.

        A unit of the base that is not finite at some TR, at which others are, is left out of the
        means at all TRs.
        """
        if _is_array(file):
            return Array(self.n_units).read(file, part, trs, None)
        bold_TV = self.base.read(file, part, trs, smoothing_fwhm_mm)
        finite_TV = np.isfinite(bold_TV)
        scanned_T = finite_TV.any(axis=1)
        used_V: NDArray[np.bool_] = np.all(finite_TV[scanned_T], axis=0)
        used_V = used_V[self._order_V]
        weight_P = np.add.reduceat(used_V, self._starts_P, dtype=np.int64)
        bold_TP = np.full((len(bold_TV), self.n_units), np.nan, np.float32)
        block_trs = max(1, _BLOCK_BYTES // (8 * len(self._order_V)))
        has_P = weight_P > 0
        for start in range(0, len(bold_TV), block_trs):
            block = slice(start, start + block_trs)
            values_TV = np.where(used_V, bold_TV[block, self._order_V], 0).astype(np.float64)
            total_TP = np.add.reduceat(values_TV, self._starts_P, axis=1)
            bold_TP[block, self._present_P[has_P]] = total_TP[:, has_P] / weight_P[has_P]
        bold_TP[~scanned_T] = np.nan
        return bold_TP

    def smooths(self, file: Path) -> bool:
        return self.base.smooths(file)

    @contextmanager
    def open_files(self, streams: Sequence[IO[bytes]], series: Series) -> Iterator[RowsFile]:
        with self.base.open_files(streams, series) as file:
            yield _Spread(file, self)

    def spread(self, values_P: NDArray[Any]) -> NDArray[Any]:
        """Give each unit of the base the value of its parcel, (..., P) -> (..., V); or NaN."""
        return np.where(self.index_V >= 0, values_P[..., self.index_V], np.float32(np.nan))

    def labels_of_parcels(self, labels: Labels) -> Labels:
        """Return the label that most of the labelled units of each parcel have; 0 if none has."""
        has_V = (self.index_V >= 0) & (labels.of_units_V > 0)
        pairs, counts = np.unique(
            np.stack([self.index_V[has_V], labels.of_units_V[has_V]]), axis=1, return_counts=True
        )
        of_parcels = np.zeros(self.n_units, np.int64)
        # The most frequent comes last, and stays.
        for pair in np.argsort(counts, kind="stable"):
            of_parcels[pairs[0, pair]] = pairs[1, pair]
        return Labels(of_parcels, labels.names)

    def volume(self, values_V: NDArray[Any]) -> Any:
        return self.base.volume(self.spread(values_V))

    def surface(self, values_V: NDArray[Any]) -> dict[str, NDArray[np.float32]] | None:
        return self.base.surface(self.spread(values_V))

    def file_bytes(self, n_trs: int) -> int:
        return self.base.file_bytes(n_trs)


class _Spread:
    """Rows of parcels, written as rows of what they are made of."""

    def __init__(self, file: RowsFile, parcels: Parcels) -> None:
        self._file, self._parcels = file, parcels

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append rows of parcels."""
        self._file.add(self._parcels.spread(rows_TV))


def _is_array(file: Path) -> bool:
    return file.name.lower().endswith(Array.suffixes)
