"""Settings of how scans are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from giblet_ray.settings import Columns, Group


class ScanConfig(Group):
    """BOLD: how scans are read. They are not z-scored here: that is done per split, in training."""

    pattern: str = "sub-{subject}"
    """Where a scan's file name tells its {subject}, with several films its {stimulus}, and, of a
    film that somebody saw several times, the {repeat}."""
    detrend: bool = False
    """Remove each voxel's linear trend."""
    smoothing_fwhm_mm: float | None = Field(None, gt=0)
    """Full width at half maximum of Gaussian smoothing (mm)."""
    confounds: Columns = ()
    """Columns of fMRIPrep's confounds tables to regress out."""
    confounds_path: str | None = None
    """Folder of the confounds tables, or the one table of a single scan (default: each scan's
    own folder)."""
    crop_start_trs: int = Field(0, ge=0)
    """TRs cut from the start of every scan, so that it begins with its film."""
    crop_stop_trs: int = Field(0, ge=0)
    """TRs cut from the end of every scan, so that it ends with its film."""
    dtype: Literal["float16", "float32"] = "float32"
    """Number format on disk."""
