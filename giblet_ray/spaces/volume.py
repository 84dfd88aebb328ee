"""Masked BOLD from NIfTI files, a block of volumes at a time.

XYZ are a volume's axes, T is the number of TRs, V of the mask's voxels (in C order).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source

NIFTI_SUFFIXES = (".nii", ".nii.gz")

_TIME_UNIT_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
_TR_TOLERANCE_SECONDS = 1e-3
_AFFINE_TOLERANCE_MM = 1e-3

_BLOCK_BYTES = 64 * 2**20
"""Decoded volumes held at a time, in float32 (one volume at least)."""


@dataclass(frozen=True)
class Mask:
    """Which voxels of a space to take."""

    file: Path
    inside: NDArray[np.bool_]
    """(X, Y, Z)."""
    affine: NDArray[np.float64]
    """(4, 4), from voxel indices to mm."""
    chosen: NDArray[np.integer] | None = None
    """Which of the voxels inside are meant, in their order, counted in C order (None: all)."""

    @property
    def n_voxels(self) -> int:
        return int(self.inside.sum())


def read_mask(path: str | Path) -> Mask:
    """Read a 3-D NIfTI file of zero and one other value.

    Raises
    ------
    InputError
        The file is missing, damaged, not 3-D NIfTI, all zero, or has more than two values.
    """
    file, _ = split_source(path)
    if not file.name.lower().endswith(NIFTI_SUFFIXES):
        raise InputError(f"{file}: a mask is a 3-D NIfTI file ({', '.join(NIFTI_SUFFIXES)})")
    image = _load(file)
    if len(image.shape) != 3:
        raise InputError(f"{file}: a mask has 3 dimensions, this file has shape {image.shape}")
    (values_XYZ,) = _decode(image, file, [...])
    levels = np.unique(values_XYZ)
    if not levels.any():
        raise InputError(f"{file}: the mask is empty: all of its {values_XYZ.size} voxels are 0")
    if levels.size > 2 or (levels.size == 2 and 0 not in levels):
        raise InputError(
            f"{file}: a mask holds 0 and one other value; this file holds {levels.size} values, "
            f"{levels[0]:g} to {levels[-1]:g}"
        )
    return Mask(file, values_XYZ != 0, image.affine)


def open_scan(file: Path, mask: Mask, tr_seconds: float) -> Any:
    """Open a 4-D scan (X, Y, Z, T) and compare its header with the mask and the TR.

    A header without a time unit that says 1 is what writers leave who set no TR: it says nothing.

    Raises
    ------
    InputError
        The file is damaged or not 4-D NIfTI, lies in another space than the mask, or its header
        tells another TR (to 1 ms).
    """
    image = _load(file)
    if len(image.shape) != 4:
        raise InputError(
            f"{file}: a scan has 4 dimensions (x, y, z, TR), this file has shape {image.shape}"
        )
    if image.get_data_dtype().kind not in "fiu":
        raise InputError(f"{file}: a scan holds real numbers, this file {image.get_data_dtype()}")
    if image.shape[:3] != mask.inside.shape:
        raise InputError(
            f"{file}: volumes of shape {image.shape[:3]}, where the mask {mask.file} has shape "
            f"{mask.inside.shape}"
        )
    if not np.allclose(image.affine, mask.affine, rtol=0, atol=_AFFINE_TOLERANCE_MM):
        raise InputError(
            f"{file}: affine {_one_line(image.affine)}, where the mask {mask.file} has "
            f"{_one_line(mask.affine)}; resample the mask to the scan"
        )
    unit = image.header.get_xyzt_units()[1]
    step = float(image.header.get_zooms()[3])
    stated = step > 0 and math.isfinite(step) and not (unit == "unknown" and step == 1)
    header_seconds = step * _TIME_UNIT_SECONDS.get(unit, math.nan)
    # Written so that a unit that is none of time (hz, ppm), hence NaN, is told as well.
    if stated and not abs(header_seconds - tr_seconds) <= _TR_TOLERANCE_SECONDS:
        raise InputError(
            f"{file}: the header's TR is {step:g} (unit: {unit}), where {tr_seconds:g} s is set; "
            "give that as --tr_seconds, or mend the header"
        )
    return image


def read_masked(
    image: Any, file: Path, mask: Mask, trs: slice, smoothing_fwhm_mm: float | None
) -> NDArray[np.float32]:
    """Decode, smooth and mask the volumes ``trs.start`` to ``trs.stop``.

    Parameters
    ----------
    image : from :func:`open_scan`
    file : Path
        For errors.
    mask : Mask
    trs : slice
    smoothing_fwhm_mm : float or None
        Full width at half maximum of a Gaussian. A voxel that is not finite counts as zero for
        its neighbours, as nilearn has it, and comes back as NaN.

    Returns
    -------
    numpy.ndarray, float32, (T, V)

    Raises
    ------
    InputError
        The file is truncated or damaged.
    """
    from nilearn.masking import apply_mask

    block_trs = max(1, _BLOCK_BYTES // (4 * mask.inside.size))
    blocks = [
        slice(start, min(start + block_trs, trs.stop))
        for start in range(trs.start, trs.stop, block_trs)
    ]
    mask_image = _as_image(mask.inside.astype(np.uint8), image.affine)
    bold_TV = np.empty((trs.stop - trs.start, mask.n_voxels), np.float32)
    decoded = _decode(image, file, [(..., block) for block in blocks])
    for block, volumes_XYZT in zip(blocks, decoded, strict=True):
        block_TV = apply_mask(
            _as_image(volumes_XYZT, image.affine),
            mask_image,
            dtype=np.float32,
            smoothing_fwhm=smoothing_fwhm_mm,
            ensure_finite=False,
        )
        if smoothing_fwhm_mm is not None:
            block_TV[~np.isfinite(volumes_XYZT[mask.inside].T)] = np.nan
        bold_TV[block.start - trs.start : block.stop - trs.start] = block_TV
    return bold_TV


def _as_image(values: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    return nibabel.Nifti1Image(values, affine)


def _load(file: Path) -> Any:
    try:
        return nibabel.load(file)
    except Exception as error:  # image, zip and system errors, by where the file is broken
        raise InputError(f"{file}: is not a readable NIfTI file: {_flat(error)}") from error


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
        raise InputError(f"{file}: is truncated or damaged: {_flat(error)}") from error


def _flat(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _one_line(affine: NDArray[np.float64]) -> str:
    return str(np.round(affine[:3], 3).tolist()).replace(" ", "")
