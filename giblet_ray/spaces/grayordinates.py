"""Grayordinates: vertices of the cortex and voxels below it, from CIFTI dense series, and back.

T is the number of TRs, V of grayordinates, N of vertices of a hemisphere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line
from giblet_ray.spaces.labels import Labels, whole_numbers
from giblet_ray.spaces.packed import pack, unpack
from giblet_ray.spaces.space import SIDES, RowsFile, Series, Space

_MODELS = "grayordinates.dscalar.nii.gz"
_SERIES = "NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES"
CORTEX = {"left": "CIFTI_STRUCTURE_CORTEX_LEFT", "right": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
_TR_TOLERANCE_SECONDS = 1e-3


class Grayordinates(Space):
    """The grayordinates of a CIFTI file, in its order.

    Parameters
    ----------
    models : nibabel.cifti2.BrainModelAxis
        Which vertex or voxel of which structure each is.
    """

    kind = "grayordinates"
    endings = (".dtseries.nii",)
    suffixes = (".dtseries.nii",)
    label_suffixes = (".dlabel.nii",)

    def __init__(self, models: Any) -> None:
        self.models = models
        self.n_units = len(models)

    @classmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        """Return the space of a dense series."""
        return cls(_series(file)[2])

    @classmethod
    def of_labels(cls, file: Path) -> Self:
        """Return the space of all grayordinates of a label image."""
        return cls(_dense_labels(file)[2])

    def labels(self, file: Path) -> Labels:
        """See :meth:`Space.labels`.

        Grayordinates are found in the image by structure, and vertex or voxel: an image may have
        more of them, as one of all vertices has, or fewer, as one of the cortex alone.
        """
        numbers_V, names, models = _dense_labels(file)
        self._check_grid(models, file)
        found_V = np.zeros(self.n_units, np.int64)
        for structure, own, part in self.models.iter_structures():
            there_V = models.name == structure
            if not there_V.any():
                continue
            if structure in self.models.nvertices:
                all_N = np.zeros(self.models.nvertices[structure], np.int64)
                all_N[models.vertex[there_V]] = numbers_V[there_V]
                found_V[own] = all_N[part.vertex]
            else:
                all_XYZ = np.zeros(self.models.volume_shape, np.int64)
                all_XYZ[tuple(models.voxel[there_V].T)] = numbers_V[there_V]
                found_V[own] = all_XYZ[tuple(part.voxel.T)]
        return Labels(found_V, names)

    def _check_grid(self, models: Any, file: Path) -> None:
        for structure, n_vertices in models.nvertices.items():
            if self.models.nvertices.get(structure, n_vertices) != n_vertices:
                raise InputError(
                    f"{file}: has {n_vertices} vertices in {structure}, where the scans have "
                    f"{self.models.nvertices[structure]}"
                )
        voxels = models.affine is not None and self.models.affine is not None
        if voxels and not (
            models.volume_shape == self.models.volume_shape
            and np.allclose(models.affine, self.models.affine)
        ):
            raise InputError(
                f"{file}: has voxels of a volume of shape {models.volume_shape}, where the scans "
                f"have others, of shape {self.models.volume_shape}, or elsewhere"
            )

    def files(self) -> dict[str, bytes]:
        from nibabel.cifti2 import Cifti2Image, ScalarAxis

        axes = ScalarAxis(["grayordinates"]), self.models
        image = Cifti2Image(np.zeros((1, self.n_units), np.uint8), header=axes)
        image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
        return {_MODELS: pack(image.to_bytes())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        from nibabel.cifti2 import Cifti2Image

        try:
            space = cls(Cifti2Image.from_bytes(unpack(files[_MODELS])).header.get_axis(1))
        except Exception as error:  # whatever a damaged file makes of its reader
            raise InputError(f"{where}: its {_MODELS} cannot be read: {one_line(error)}") from error
        if space.n_units != n_units:
            raise InputError(f"{where}: has {space.n_units} grayordinates, not {n_units}")
        return space

    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        _, series, models = _series(file)
        if len(models) != self.n_units:
            raise InputError(
                f"{file}: has {len(models)} grayordinates, where {self.n_units} are expected"
            )
        if models != self.models:
            raise InputError(
                f"{file}: its grayordinates are other vertices and voxels than those that are "
                "expected, of the subject's first scan"
            )
        seconds = float(series.step) if series.unit == "SECOND" else np.nan
        # Written so that a step that is none of time (hertz, meters), hence NaN, is told as well.
        if tr_seconds is not None and not abs(seconds - tr_seconds) <= _TR_TOLERANCE_SECONDS:
            raise InputError(
                f"{file}: the header's TR is {series.step:g} (unit: {series.unit}), where "
                f"{tr_seconds:g} s is set; give that as --tr_seconds, or, if the header is wrong, "
                "--scan.ignore_header_tr"
            )
        return len(series)

    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        image, *_ = _series(file)
        try:
            return np.array(image.dataobj[trs], np.float32)
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"{file}: is truncated or damaged: {one_line(error)}") from error

    @contextmanager
    def open_files(self, streams: Sequence[IO[bytes]], series: Series) -> Iterator[RowsFile]:
        """See :meth:`Space.open_files`; in the file, time is the fastest axis: rows are held."""
        from nibabel.cifti2 import Cifti2Image, SeriesAxis

        (stream,) = streams
        rows_TV = np.zeros((series.n_trs, self.n_units), np.float32)
        yield _Rows(rows_TV)
        axes = SeriesAxis(series.first_seconds, series.tr_seconds, series.n_trs), self.models
        image = Cifti2Image(rows_TV, header=axes)
        image.nifti_header.set_intent(_SERIES)
        image.nifti_header["descrip"] = series.what.encode()
        out: Any = stream
        image.to_stream(out)

    def volume(self, values_V: NDArray[Any]) -> Any:
        inside_V = self.models.volume_mask
        if not inside_V.any():
            return None
        from nibabel import Nifti1Image

        values_XYZ = np.full(self.models.volume_shape, np.nan, np.float32)
        values_XYZ[tuple(self.models.voxel[inside_V].T)] = values_V[inside_V]
        return Nifti1Image(values_XYZ, self.models.affine)

    def surface(self, values_V: NDArray[Any]) -> dict[str, NDArray[np.float32]] | None:
        counts = {side: self.models.nvertices.get(name) for side, name in CORTEX.items()}
        if not any(counts.values()):
            return None
        n_vertices = max(filter(None, counts.values()))
        values = {side: np.full(counts[side] or n_vertices, np.nan, np.float32) for side in SIDES}
        for side, name in CORTEX.items():
            of_side_V = self.models.name == name
            values[side][self.models.vertex[of_side_V]] = values_V[of_side_V]
        return values

    def file_bytes(self, n_trs: int) -> int:
        # A grayordinate is named by up to 3 numbers of 7 letters, a structure by less than 1 kB.
        return (4 * n_trs + 24) * self.n_units + 2**17


class _Rows:
    def __init__(self, rows_TV: NDArray[np.float32]) -> None:
        self._rows_TV, self._n_rows = rows_TV, 0

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Keep rows."""
        self._rows_TV[self._n_rows : self._n_rows + len(rows_TV)] = rows_TV
        self._n_rows += len(rows_TV)


def _series(file: Path) -> tuple[Any, Any, Any]:
    """Load a dense series: the image, and the axes of its TRs and of its grayordinates."""
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis

    image, (series, models) = load_image(file)
    if not (isinstance(series, SeriesAxis) and isinstance(models, BrainModelAxis)):
        found = " and ".join(type(axis).__name__ for axis in (series, models))
        raise InputError(
            f"{file}: a dense series has a SeriesAxis and a BrainModelAxis, this file {found}"
        )
    return image, series, models


def _dense_labels(file: Path) -> tuple[NDArray[np.int64], dict[int, str], Any]:
    """Load a label image: the number of each grayordinate, their names, and the axis of them."""
    from nibabel.cifti2 import BrainModelAxis, LabelAxis

    image, (maps, models) = load_image(file)
    if not (isinstance(maps, LabelAxis) and isinstance(models, BrainModelAxis)):
        found = " and ".join(type(axis).__name__ for axis in (maps, models))
        raise InputError(
            f"{file}: a label image has a LabelAxis and a BrainModelAxis, this file {found}"
        )
    if len(maps) != 1:
        raise InputError(
            f"{file}: a label image has 1 map, this file {len(maps)}: {', '.join(maps.name)}"
        )
    try:
        numbers_V = whole_numbers(np.asarray(image.dataobj[0]), file)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: is truncated or damaged: {one_line(error)}") from error
    names = {int(number): str(number) for number in np.unique(numbers_V)}
    names |= {int(number): name for number, (name, _) in maps.label[0].items()}
    return numbers_V, {n: name for n, name in sorted(names.items()) if n > 0}, models


def load_image(file: Path) -> tuple[Any, tuple[Any, Any]]:
    """Load a CIFTI file of two axes: the image, and its axes.

    Raises
    ------
    InputError
        If it is none.
    """
    from nibabel.cifti2 import Cifti2Image

    try:
        with _without_notes():
            image = Cifti2Image.from_filename(file)
        axes = [image.header.get_axis(index) for index in range(image.ndim)]
    except Exception as error:  # image, XML and system errors, by where the file is broken
        raise InputError(f"{file}: is not a readable CIFTI-2 file: {one_line(error)}") from error
    if len(axes) != 2:
        raise InputError(f"{file}: a CIFTI file of 2 axes is accepted, this one has {len(axes)}")
    return image, (axes[0], axes[1])


@contextmanager
def _without_notes() -> Iterator[None]:
    """Keep nibabel from saying that a header has no size of voxels, as Workbench writes them."""
    from nibabel.imageglobals import logger

    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
