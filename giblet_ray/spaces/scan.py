"""A scan file -> its BOLD, one row per TR, as measured or cleaned, and never z-scored.

BOLD is normalised when training starts, from training TRs alone; doing so here would leak the
held-out ones. High-pass and confounds are of the whole scan, and the manifest says so.

T is the number of TRs, V of voxels, C of confounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source
from giblet_ray.spaces.cleaning import drift_cosines, regress_out
from giblet_ray.spaces.confounds import find_confounds, read_confounds
from giblet_ray.spaces.kinds import ending_of_scan, files_of_scan, space_of_scan
from giblet_ray.spaces.sidecar import check_sidecar_tr
from giblet_ray.spaces.space import Space


@dataclass(frozen=True)
class ScanOptions:
    """How a scan is cleaned, and which of its file's volumes are read: those that are not shape no
    fit."""

    high_pass_seconds: float | None = None
    """Remove cosines of longer periods from each voxel, which keeps its mean."""

    smoothing_fwhm_mm: float | None = None
    """Full width at half maximum of a Gaussian, in mm; NIfTI only."""

    confounds: tuple[str, ...] = ()
    """Columns of an fMRIPrep confounds table to regress out, in one fit with the cosines."""

    confounds_path: str | None = None
    """The table, or a folder that holds each scan's table under the name that fMRIPrep gives it.
    Without it, the table is looked for beside the scan."""

    volumes: tuple[int, int] | None = None
    """First volume that is read, and the one after the last (default: all)."""

    scrubbed: tuple[int, ...] = ()
    """Volumes of the file that are NaN in what is read, and shape no fit."""

    ignore_header_tr: bool = False
    """Do not compare the TR with the one in the header, nor with that in the sidecar."""


def read_bold(
    path: str | Path,
    mask: str | Path | None = None,
    atlas: str | Path | None = None,
    atlas_names: str | Path | None = None,
    *,
    tr_seconds: float,
    options: ScanOptions = ScanOptions(),
) -> NDArray[np.float32]:
    """Read one scan.

    Files: 4-D NIfTI (.nii, .nii.gz) with a mask; a pair of GIFTI files (.func.gii), named by one of
    them; CIFTI dense series (.dtseries.nii); .npy, or HDF5 (.h5, .hdf5), holding (T, V). Of an HDF5
    file its only 2-D data set is read, or ``scan.h5::name``.

    Blocks of about 64 MB are decoded, smoothed, masked and cleaned in turn, so that little more
    than the result is held. What is fitted to a voxel is fitted to the TRs at which it is finite;
    constant voxels come back as they were; smoothing counts a NaN as zero for its neighbours, as
    nilearn does.

    Parameters
    ----------
    path : str or Path
    mask : str or Path, optional
        3-D NIfTI of zero and one other value, in the scan's space; required for a NIfTI scan.
        For an array, whose voxels are chosen already, their number is compared with the mask's.
    atlas : str or Path, optional
        Label image; the units are then the means of its regions, or the columns of an array.
    atlas_names : str or Path, optional
        Table of what its labels are called.
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
    space, file, part, n_trs = _opened(path, (mask, atlas, atlas_names), tr_seconds, options)
    trs = slice(0, n_trs) if options.volumes is None else slice(*options.volumes)
    if not 0 <= trs.start < trs.stop <= n_trs:
        raise InputError(f"{file}: volumes {trs.start} to {trs.stop - 1} are asked of its {n_trs}")
    bold_TV = space.read(file, part, trs, options.smoothing_fwhm_mm)
    bold_TV[[volume - trs.start for volume in options.scrubbed]] = np.nan
    regressors = []
    if options.high_pass_seconds is not None:
        regressors.append(drift_cosines(len(bold_TV), tr_seconds, options.high_pass_seconds))
    if options.confounds:
        table = find_confounds(file, options.confounds_path)
        regressors.append(read_confounds(table, options.confounds, n_trs)[trs])
    if any(each_TC.shape[1] for each_TC in regressors):
        regress_out(bold_TV, np.concatenate(regressors, axis=1), file)
    return bold_TV


def scan_shape(
    path: str | Path,
    mask: str | Path | None = None,
    atlas: str | Path | None = None,
    atlas_names: str | Path | None = None,
    *,
    tr_seconds: float,
    options: ScanOptions = ScanOptions(),
) -> tuple[int, int]:
    """Give the shape (T, V) of all volumes of a scan's file, without reading the values.

    Takes and raises what :func:`read_bold` does, but for what only the values and the confounds
    table can tell.
    """
    space, _, _, n_trs = _opened(path, (mask, atlas, atlas_names), tr_seconds, options)
    return n_trs, space.n_units


def _opened(
    path: str | Path,
    choosing: tuple[str | Path | None, str | Path | None, str | Path | None],
    tr_seconds: float,
    options: ScanOptions,
) -> tuple[Space, Path, str | None, int]:
    """Give space, file, the part of it that is meant, and its TRs, if the options go with them."""
    space = space_of_scan(path, *choosing)
    _check_options(tr_seconds, options)
    file, part = split_source(path)
    if not options.ignore_header_tr:
        for each in map(Path, files_of_scan(file)):
            check_sidecar_tr(each, ending_of_scan(each), tr_seconds)
    if options.smoothing_fwhm_mm is not None and not space.smooths(file):
        raise InputError(f"{file}: smoothing needs a NIfTI scan; other units know no distances")
    n_trs = space.n_trs(file, part, None if options.ignore_header_tr else tr_seconds)
    return space, file, part, n_trs


def _check_options(tr_seconds: float, options: ScanOptions) -> None:
    longest = options.high_pass_seconds
    if longest is not None and not (math.isfinite(longest) and longest > 2 * tr_seconds):
        raise InputError(
            f"high_pass_seconds is {longest:g}; accepted: more than two TRs of {tr_seconds:g} s, "
            "or none"
        )
    fwhm = options.smoothing_fwhm_mm
    if fwhm is not None and not (math.isfinite(fwhm) and fwhm > 0):
        raise InputError(f"smoothing_fwhm_mm is {fwhm:g}; accepted: more than 0 mm, or none")
    if options.confounds_path is not None and not options.confounds:
        raise InputError(
            f"confounds_path is {options.confounds_path}, and no confounds are named; name columns"
        )
