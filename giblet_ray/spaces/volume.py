"""Voxels of a mask, from 4-D NIfTI files, a block of volumes at a time, and back.

XYZ are a volume's axes, T is the number of TRs, V of the mask's voxels (in C order).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.source import split_source
from giblet_ray.spaces.array import Array
from giblet_ray.spaces.labels import Labels, whole_numbers
from giblet_ray.spaces.packed import pack, unpack
from giblet_ray.spaces.space import RowsFile, Series, Space

NIFTI_SUFFIXES = (".nii", ".nii.gz")

_MASK = "mask.nii.gz"
_TIME_UNIT_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_TR_TOLERANCE_SECONDS = 1e-3
_AFFINE_TOLERANCE_MM = 1e-3
_GZIP_LEVEL = 1
"""Noise hardly shrinks, whatever the level: the zeros outside the mask do at once."""

_BLOCK_BYTES = 64 * 2**20
"""Decoded volumes held at a time, in float32 (one volume at least)."""


class Volume(Space):
    """The voxels of a mask.

    Scans are 4-D NIfTI files in the mask's space, or arrays whose columns are its voxels already.

    Parameters
    ----------
    mask : nibabel image
        Where the voxels lie.
    values_XYZ : ndarray
        What it holds: zero and one other value.
    where, what : str
        Where it is from, and what it is, for messages.

    Raises
    ------
    InputError
        It is all zero, or has more than two values.
    """

    kind = "volume"
    endings = (".nii.gz",)
    suffixes = NIFTI_SUFFIXES
    label_suffixes = NIFTI_SUFFIXES

    def __init__(self, mask: Any, values_XYZ: NDArray[Any], where: str, what: str = "mask") -> None:
        levels = np.unique(values_XYZ)
        if not levels.any():
            raise InputError(
                f"{where}: the mask is empty: all of its {values_XYZ.size} voxels are 0"
            )
        if levels.size > 2 or (levels.size == 2 and 0 not in levels):
            raise InputError(
                f"{where}: a mask holds 0 and one other value; this file holds {levels.size} "
                f"values, {levels[0]:g} to {levels[-1]:g}"
            )
        self.told = f"the {what} {where}"
        self.inside: NDArray[np.bool_] = values_XYZ != 0
        self.affine: NDArray[np.float64] = mask.affine
        self.n_units = int(self.inside.sum())
        self._codes = int(mask.header["sform_code"]) or 2, int(mask.header["qform_code"])

    @classmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        raise InputError(
            f"{file}: a NIfTI scan needs a --mask, a 3-D NIfTI file of the voxels to take"
        )

    @classmethod
    def of_mask(cls, path: str | Path) -> Self:
        """Return the space of a mask's file.

        Raises
        ------
        InputError
            The file is missing, or no NIfTI file, or no mask.
        """
        file, _ = split_source(path)
        if not file.name.lower().endswith(NIFTI_SUFFIXES):
            raise InputError(f"{file}: a mask is a 3-D NIfTI file ({', '.join(NIFTI_SUFFIXES)})")
        image = _load(file)
        if len(image.shape) != 3:
            raise InputError(f"{file}: a mask has 3 dimensions, this file has shape {image.shape}")
        (values_XYZ,) = _decode(image, file, [...])
        return cls(image, values_XYZ, str(file))

    @classmethod
    def of_labels(cls, file: Path) -> Self:
        """Return the space of the voxels that have a label."""
        image, values_XYZ = _load_labels(file)
        return cls(image, (values_XYZ != 0).astype(np.uint8), str(file), "atlas")

    def labels(self, file: Path) -> Labels:
        image, values_XYZ = _load_labels(file)
        self._check_grid(image, file)
        numbers = map(int, np.unique(values_XYZ[values_XYZ != 0]))
        return Labels(values_XYZ[self.inside], {number: str(number) for number in numbers})

    def files(self) -> dict[str, bytes]:
        image = _as_image(self.inside.astype(np.uint8), self.affine)
        self._place(image)
        return {_MASK: pack(image.to_bytes())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        try:
            image = _nibabel().Nifti1Image.from_bytes(unpack(files[_MASK]))
            values_XYZ = np.asarray(image.dataobj)
        except Exception as error:  # whatever a damaged file makes of its reader
            raise InputError(f"{where}: its mask cannot be read: {one_line(error)}") from error
        space = cls(image, values_XYZ, f"{where}: {_MASK}")
        if space.n_units != n_units:
            raise InputError(f"{where}: its mask has {space.n_units} voxels, not {n_units}")
        return space

    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        if not _is_nifti(file):
            array = Array.of_scan(file, part)
            if array.n_units != self.n_units:
                raise InputError(
                    f"{file}: has {array.n_units} voxels, where {self.told} has {self.n_units}"
                )
            return array.n_trs(file, part, tr_seconds)
        image = _load(file)
        self._check_scan(image, file)
        if tr_seconds is not None:
            _check_header_tr(image, file, tr_seconds)
        return int(image.shape[3])

    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        """See :meth:`Space.read`.

        A voxel that is not finite counts as zero for its neighbours in smoothing, as nilearn has
        it, and comes back as NaN.
        """
        if not _is_nifti(file):
            return Array(self.n_units).read(file, part, trs, None)
        image = _load(file)
        block_trs = max(1, _BLOCK_BYTES // (4 * self.inside.size))
        blocks = [
            slice(start, min(start + block_trs, trs.stop))
            for start in range(trs.start, trs.stop, block_trs)
        ]
        bold_TV = np.empty((trs.stop - trs.start, self.n_units), np.float32)
        decoded = _decode(image, file, [(..., block) for block in blocks])
        for block, volumes_XYZT in zip(blocks, decoded, strict=True):
            block_TV = volumes_XYZT[self.inside].T
            if smoothing_fwhm_mm is not None:
                is_finite_TV = np.isfinite(block_TV)
                block_TV = self._smoothed(volumes_XYZT, image.affine, smoothing_fwhm_mm)
                block_TV[~is_finite_TV] = np.nan
            bold_TV[block.start - trs.start : block.stop - trs.start] = block_TV
        return bold_TV

    def _smoothed(
        self, volumes_XYZT: NDArray[Any], affine: NDArray[Any], fwhm_mm: float
    ) -> NDArray[np.float32]:
        # Imported where it is used: it takes seconds.
        from nilearn.masking import apply_mask

        smoothed_TV: NDArray[np.float32] = apply_mask(
            _as_image(volumes_XYZT, affine),
            _as_image(self.inside.astype(np.uint8), affine),
            dtype=np.float32,
            smoothing_fwhm=fwhm_mm,
            ensure_finite=False,
        )
        return smoothed_TV

    def smooths(self, file: Path) -> bool:
        return _is_nifti(file)

    @contextmanager
    def open_files(self, streams: Sequence[IO[bytes]], series: Series) -> Iterator[RowsFile]:
        (stream,) = streams
        # An array of one number, seen as often as the shape wants: it takes no memory.
        volumes = np.broadcast_to(np.float32(0), (*self.inside.shape, series.n_trs))
        longer = series.n_trs > np.iinfo(np.int16).max  # than a NIfTI-1 file can say
        image = (_nibabel().Nifti2Image if longer else _as_image)(volumes, self.affine)
        self._place(image)
        header: Any = image.header
        header.set_data_offset(header.single_vox_offset)
        header.set_slope_inter(1, 0)
        header.set_xyzt_units("mm", "sec")
        header.set_zooms((*header.get_zooms()[:3], series.tr_seconds))
        header["toffset"] = series.first_seconds
        header["descrip"] = series.what.encode()
        # Without a time and a name in it, the same rows are the same file.
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as unzipped:
            header.write_to(unzipped)
            yield _Volumes(unzipped, self.inside)

    def volume(self, values_V: NDArray[Any]) -> Any:
        values_XYZ = np.full(self.inside.shape, np.nan, np.float32)
        values_XYZ[self.inside] = values_V
        return _as_image(values_XYZ, self.affine)

    def file_bytes(self, n_trs: int) -> int:
        return 4 * n_trs * self.inside.size + 352

    def _place(self, image: Any) -> None:
        """Let an image lie where the mask lies."""
        sform, qform = self._codes
        image.set_sform(self.affine, sform)
        image.set_qform(self.affine, qform)

    def _check_scan(self, image: Any, file: Path) -> None:
        if len(image.shape) != 4:
            raise InputError(
                f"{file}: a scan has 4 dimensions (x, y, z, TR), this file has shape {image.shape}"
            )
        if image.get_data_dtype().kind not in "fiu":
            found = image.get_data_dtype()
            raise InputError(f"{file}: a scan holds real numbers, this file {found}")
        self._check_grid(image, file)

    def _check_grid(self, image: Any, file: Path) -> None:
        if image.shape[:3] != self.inside.shape:
            raise InputError(
                f"{file}: volumes of shape {image.shape[:3]}, where {self.told} has "
                f"shape {self.inside.shape}"
            )
        if not np.allclose(image.affine, self.affine, rtol=0, atol=_AFFINE_TOLERANCE_MM):
            raise InputError(
                f"{file}: affine {_numbers(image.affine)}, where {self.told} has "
                f"{_numbers(self.affine)}; resample one to the other"
            )


class _Volumes:
    """Volumes of a 4-D NIfTI file, appended one by one: in it, time is the slowest axis."""

    def __init__(self, stream: gzip.GzipFile, inside: NDArray[np.bool_]) -> None:
        self._stream = stream
        # A row has the mask's voxels in C order, a volume lies in Fortran order.
        self._places_V = np.ravel_multi_index(np.nonzero(inside), inside.shape, order="F")
        self._volume_XYZ = np.zeros(inside.size, "<f4")

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append volumes; outside the mask they are 0."""
        for row_V in rows_TV:
            self._volume_XYZ[self._places_V] = row_V
            self._stream.write(self._volume_XYZ.tobytes())


def _check_header_tr(image: Any, file: Path, tr_seconds: float) -> None:
    """Compare the header's TR with the one that is set, to 1 ms.

    A header without a time unit that says 1 is what writers leave who set no TR: it says nothing.
    """
    unit = image.header.get_xyzt_units()[1]
    step = float(image.header.get_zooms()[3])
    stated = step > 0 and math.isfinite(step) and not (unit == "unknown" and step == 1)
    header_seconds = step * _TIME_UNIT_SECONDS.get(unit, math.nan)
    # Written so that a unit that is none of time (hz, ppm), hence NaN, is told as well.
    if stated and not abs(header_seconds - tr_seconds) <= _TR_TOLERANCE_SECONDS:
        raise InputError(
            f"{file}: the header's TR is {step:g} (unit: {unit}), where {tr_seconds:g} s is set; "
            "give that as --tr_seconds, or, if the header is wrong, --scan.ignore_header_tr"
        )


def _is_nifti(file: Path) -> bool:
    return file.name.lower().endswith(NIFTI_SUFFIXES)


def _nibabel() -> Any:
    """Import nibabel when a volume is met: most jobs meet none, and all import this file."""
    import nibabel

    return nibabel


def _as_image(values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    return _nibabel().Nifti1Image(values, affine)


def _load(file: Path) -> Any:
    try:
        return _nibabel().load(file)
    except Exception as error:  # image, zip and system errors, by where the file is broken
        raise InputError(f"{file}: is not a readable NIfTI file: {one_line(error)}") from error


def load_mask(file: Path) -> Any:
    """Load an image whose values are decoded, so that a damaged one is told.

    Raises
    ------
    InputError
        It is no NIfTI file, or damaged.
    """
    image = _load(file)
    (values_XYZ,) = _decode(image, file, [...])
    return type(image)(values_XYZ, image.affine, image.header)


def _load_labels(file: Path) -> tuple[Any, NDArray[np.int64]]:
    """Load a 3-D label image, and its values."""
    image = _load(file)
    if len(image.shape) != 3:
        raise InputError(
            f"{file}: a label image has 3 dimensions, this file has shape {image.shape}"
        )
    (values_XYZ,) = _decode(image, file, [...])
    return image, whole_numbers(values_XYZ, file)


def _decode(image: Any, file: Path, selections: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
    """Read selections of an image's array, forward through its file, and then to the file's end.

    Through one open file, since a .nii.gz is decoded from its start whenever it is opened; to the
    end, since there stands the checksum that tells of damage.
    """
    zipped = file.name.lower().endswith(".gz")
    try:
        with gzip.open(file) if zipped else file.open("rb") as stream:
            stored = type(image).from_stream(stream).dataobj
            for selection in selections:
                yield np.asarray(stored[selection], np.float32)
            while zipped and stream.read(2**20):
                pass
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{file}: is truncated or damaged: {one_line(error)}") from error


def _numbers(affine: NDArray[np.float64]) -> str:
    return str(np.round(affine[:3], 3).tolist()).replace(" ", "")
