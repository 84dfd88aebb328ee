"""A scan file -> its BOLD, one row per TR, as measured or cleaned, and never z-scored.

BOLD is normalised when training starts, from training TRs alone; doing so here would leak the
held-out ones. T is the number of TRs, V of voxels, C of confounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source
from giblet_ray.spaces.confounds import find_confounds, read_confounds
from giblet_ray.spaces.kinds import space_of_scan
from giblet_ray.spaces.space import Space
from giblet_ray.spaces.usable import empty_trs, find_bad_units, unmasked
from giblet_ray.spaces.volume import NIFTI_SUFFIXES

_BLOCK_BYTES = 64 * 2**20
"""Voxels cleaned at a time, in float64."""


@dataclass(frozen=True)
class ScanOptions:
    """How a scan is cleaned. Cropping comes first, so that what is cut off shapes no fit."""

    detrend: bool = False
    """Remove a line per voxel; its mean goes with it."""

    smoothing_fwhm_mm: float | None = None
    """Full width at half maximum of a Gaussian, in mm; NIfTI only."""

    confounds: tuple[str, ...] = ()
    """Columns of an fMRIPrep confounds table to regress out; each voxel keeps its mean unless
    ``detrend`` removes it."""

    confounds_path: str | None = None
    """The table, or a folder that holds each scan's table under the name that fMRIPrep gives it.
    Without it, the table is looked for beside the scan."""

    crop_start_trs: int = 0
    crop_stop_trs: int = 0
    """TRs cut from the scan's start and end."""


def read_bold(
    path: str | Path,
    mask: str | Path | None = None,
    *,
    tr_seconds: float,
    options: ScanOptions = ScanOptions(),
) -> NDArray[np.float32]:
    """Read one scan.

    Files: 4-D NIfTI (.nii, .nii.gz) with a mask; .npy, or HDF5 (.h5, .hdf5), holding (T, V). Of
    an HDF5 file its only 2-D data set is read, or ``scan.h5::name``.

    Blocks of about 64 MB are decoded, smoothed, masked and cleaned in turn, so that little more
    than the result is held. NaN and constant voxels come back as they were; smoothing counts a NaN
    as zero for its neighbours, as nilearn does.

    Parameters
    ----------
    path : str or Path
    mask : str or Path, optional
        3-D NIfTI of zero and one other value, in the scan's space; required for a NIfTI scan.
        For an array, whose voxels are chosen already, their number is compared with the mask's.
    tr_seconds : float
        Compared with the NIfTI header, to 1 ms. A header without a time unit that says 1 is what
        writers leave who set no TR, and says nothing.
    options : ScanOptions

    Returns
    -------
    numpy.ndarray, float32, (T, V)
        V in the order of the mask's voxels (C order).

    Raises
    ------
    InputError
        The scan, mask or table is missing, truncated, or of another shape, space, TR or length
        than the rest; an option that the file cannot follow.
    """
    file, part, space = _checked_request(path, mask, options)
    n_trs = space.n_trs(file, part, tr_seconds)
    trs = _kept_trs(file, n_trs, options)
    bold_TV = space.read(file, part, trs, options.smoothing_fwhm_mm)
    if options.detrend or options.confounds:
        confounds_TC = None
        if options.confounds:
            table = find_confounds(file, options.confounds_path)
            confounds_TC = read_confounds(table, options.confounds, n_trs)
            confounds_TC = confounds_TC[trs]
            # The mean and the line are fitted too; nothing but rounding would be left.
            if confounds_TC.shape[1] + 2 >= len(bold_TV):
                raise InputError(
                    f"{file}: {confounds_TC.shape[1]} confounds explain any {len(bold_TV)} TRs; "
                    "name fewer"
                )
        _clean(bold_TV, confounds_TC, detrend=options.detrend)
    return bold_TV


def scan_shape(
    path: str | Path,
    mask: str | Path | None = None,
    *,
    tr_seconds: float,
    options: ScanOptions = ScanOptions(),
) -> tuple[int, int]:
    """Give the shape (T, V) that :func:`read_bold` would return, without reading the values.

    Takes and raises what :func:`read_bold` does, but for what only the values and the confounds
    table can tell.
    """
    file, part, space = _checked_request(path, mask, options)
    trs = _kept_trs(file, space.n_trs(file, part, tr_seconds), options)
    return trs.stop - trs.start, space.n_units


def _checked_request(
    path: str | Path, mask: str | Path | None, options: ScanOptions
) -> tuple[Path, str | None, Space]:
    """Give the file, the part of it that is meant, and its space, if the options go with them."""
    _check_options(options)
    space = space_of_scan(path, mask)
    file, part = split_source(path)
    if options.smoothing_fwhm_mm is not None and not file.name.lower().endswith(NIFTI_SUFFIXES):
        raise InputError(f"{file}: smoothing needs a NIfTI scan; an array knows no distances")
    return file, part, space


def _check_options(options: ScanOptions) -> None:
    for field in ("crop_start_trs", "crop_stop_trs"):
        if getattr(options, field) < 0:
            raise InputError(f"{field} is {getattr(options, field)}; accepted: 0 TRs or more")
    fwhm = options.smoothing_fwhm_mm
    if fwhm is not None and not (math.isfinite(fwhm) and fwhm > 0):
        raise InputError(f"smoothing_fwhm_mm is {fwhm:g}; accepted: more than 0 mm, or none")
    if options.confounds_path is not None and not options.confounds:
        raise InputError(
            f"confounds_path is {options.confounds_path}, and no confounds are named; name columns"
        )


def _kept_trs(file: Path, n_trs: int, options: ScanOptions) -> slice:
    start, stop = options.crop_start_trs, n_trs - options.crop_stop_trs
    if stop <= start:
        raise InputError(
            f"{file}: cropping {start} TRs at the start and {options.crop_stop_trs} at the end "
            f"leaves nothing of its {n_trs} TRs"
        )
    return slice(start, stop)


def _clean(
    bold_TV: NDArray[np.float32], confounds_TC: NDArray[np.float64] | None, *, detrend: bool
) -> None:
    """Regress out confounds and a line, in place; what is fitted is fitted to TRs with numbers.

    Units with NaNs at other TRs stay, and constant ones too: rounding would turn them into noise
    that normalisation then blows up.
    """
    used_T = unmasked(len(bold_TV), empty_trs(bold_TV))
    broken_V, constant_V = find_bad_units([bold_TV[used_T]])
    (units,) = np.nonzero(~(broken_V | constant_V))
    regressors = [] if confounds_TC is None else [confounds_TC]
    regressors += [np.arange(len(bold_TV), dtype=float)[:, None]] if detrend else []
    design_TC = np.concatenate(regressors, axis=1)[used_T]
    design_TC -= design_TC.mean(axis=0)
    design_TC /= np.maximum(np.linalg.norm(design_TC, axis=0), np.finfo(float).tiny)
    n_blocks = max(1, 8 * len(units) * len(bold_TV) // _BLOCK_BYTES)
    for block in np.array_split(units, n_blocks):
        at = np.ix_(used_T, block)
        used_TV = bold_TV[at].astype(np.float64)
        mean_V = used_TV.mean(axis=0)
        weights_CV = np.linalg.lstsq(design_TC, used_TV - mean_V, rcond=None)[0]
        bold_TV[at] = used_TV - design_TC @ weights_CV - (mean_V if detrend else 0)
