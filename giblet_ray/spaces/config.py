"""Settings of how scans are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from giblet_ray.settings import Columns, Group, Spelling, none_by_word

HighPass = Annotated[float | None, BeforeValidator(none_by_word), Spelling("SECONDS|none")]


class ScanConfig(Group):
    """BOLD: how scans are read. They are not z-scored here: that is done per split, in training."""

    pattern: str = "sub-{subject}"
    """Where a scan's file name tells its {subject}, with several films its {stimulus}, and, of a
    film that somebody saw several times, the {repeat}. What follows '::' is looked for in the names
    of the data sets of HDF5 files, whose scans of these films are all taken."""
    high_pass_seconds: HighPass = Field(128.0, gt=0)
    """Remove what is slower than this (s) from each unit, by cosines as nilearn and SPM do; none
    for scans that have it already. They are fitted to each scan whole, to the TRs that will
    validate and test too."""
    smoothing_fwhm_mm: float | None = Field(None, gt=0)
    """Full width at half maximum of Gaussian smoothing (mm)."""
    confounds: Columns = ()
    """Columns of fMRIPrep's confounds tables to regress out."""
    strategy: Columns = ()
    """Instead of columns, nilearn's strategies for fMRIPrep's confounds tables: motion, wm_csf,
    global_signal, compcor (with high_pass), ica_aroma, tedana are regressed out; what scrub and
    non_steady_state name neither trains nor judges. Tables lie beside the scans."""
    confounds_path: str | None = None
    """Folder of the confounds tables, or the one table of a single scan (default: each scan's
    own folder)."""
    table: str | None = None
    """Tab-separated table of what differs between scans, a row each: subject, stimulus and, of
    what somebody saw again, repeat; onset_seconds, when the film begins after the scan's first
    volume (negative: before), and film_offset_seconds, how far into it; crop_start_trs,
    crop_stop_trs; scrub, volumes that neither train nor judge (3,17-19, from 0); file, with
    first_volume and last_volume where it holds several scans. Columns may lack, cells be empty."""
    repeats: Literal["separate", "average"] = "separate"
    """average: what somebody saw several times becomes one scan, the mean of all, each z-scored as
    a whole."""
    lengths: Literal["exact", "trim"] = "exact"
    """exact: a scan ends with its film, or, where the table says when that begins, not before it.
    trim: either may end before the other; what is cut is listed. Of what follows the film, 20 s
    are kept, the response to its end; they train or judge as its last TR does."""
    scrub: Columns = ()
    """Columns of the confounds tables, or their beginnings, that mark volumes which neither train
    nor judge, such as motion_outlier."""
    crop_start_trs: int = Field(0, ge=0)
    """TRs cut from the start of every scan, so that it begins with its film; a scan's own in the
    table."""
    crop_stop_trs: int = Field(0, ge=0)
    """TRs cut from the end of every scan, so that it ends with its film."""
    ignore_header_tr: bool = False
    """The TR in the scans' headers or sidecars is wrong, and --tr_seconds is right: they are not
    compared."""
    dtype: Literal["float16", "float32"] = "float32"
    """Number format on disk."""


def high_pass_in_words(longest_seconds: float | None) -> str:
    """Say which drift is removed, and that TRs that validate and test have a part in it."""
    if longest_seconds is None:
        return "none"
    return f"{longest_seconds:g} s, by cosines over whole scans"
