"""What of a scan is taken: its volumes, its film, its units and its confounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.splits import response_trs
from giblet_ray.dataset.storage import absolute_file
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.find_scans import FoundScan
from giblet_ray.precompute.makers import scan_options
from giblet_ray.precompute.scan_table import ScanRow
from giblet_ray.precompute.scan_timing import Taken, take_volumes
from giblet_ray.spaces.confounds import (
    find_confounds,
    outlier_trs,
    read_confounds,
    strategy_confounds,
)
from giblet_ray.spaces.kinds import CHOOSING
from giblet_ray.spaces.labels import find_label_table
from giblet_ray.spaces.scan import scan_shape

_NOT_OF_VALUES = (
    "pattern",
    "table",
    "lengths",
    "repeats",
    "confounds_path",
    "strategy",
    "scrub",
    "crop_start_trs",
    "crop_stop_trs",
)
"""Settings by which scans are found and cut, which each scan's plan has the outcome of."""


@dataclass(frozen=True)
class ScanPlan:
    """A scan, and what of it is taken."""

    subject: str
    path: str
    """Whose it is, and its file."""
    choosing: dict[str, str]
    """Files that say what its units are, by role."""
    n_units: int
    """Voxels, vertices or parcels."""
    taken: Taken
    """Its volumes, and its film."""
    scrubbed: tuple[int, ...]
    """Volumes of the file that neither train nor judge."""
    confounds: str | None
    """The table of its confounds."""
    n_read: int = 0
    """Numbers of a TR that are held to make its units."""
    columns: tuple[str, ...] = ()
    """Those that are regressed out."""
    repeat: int = 1
    """The first time that the subject saw the film, the second, ..."""
    phase: int = 0
    """Which of the film's phases it sees."""

    @property
    def film(self) -> FilmFiles:
        """The film, cut at the TRs of the scan."""
        return self.taken.film

    @property
    def key(self) -> ScanKey:
        """Which scan it is."""
        return ScanKey(self.subject, self.film.name, self.repeat)


def plan_scan(
    job: PrecomputeJob, scan: FoundScan, film_from: Callable[[float], FilmFiles]
) -> tuple[ScanPlan, tuple[int, int]]:
    """Return what of a scan is taken, and its volumes in its file, [start, stop).

    Parameters
    ----------
    job : PrecomputeJob
    scan : FoundScan
    film_from : callable
        Gives the scan's film, cut into TRs from so many seconds of it on.

    Raises
    ------
    InputError
        If it cannot be read, is of another length than its film, or nothing of it is left; for
        confounds that are not there, or not of it.
    """
    said, row = job.scan, scan.row or ScanRow("", scan.subject, scan.stimulus)
    named = None if said.scrub and not said.confounds else said.confounds_path
    options = scan_options(scan_settings(job), named)
    choosing = _choosing(job, scan.subject)
    n_trs, n_units = scan_shape(scan.path, **choosing, tr_seconds=job.tr_seconds, options=options)
    volumes = _volumes(row, scan.path, n_trs)
    crop = (
        said.crop_start_trs if row.crop_start_trs is None else row.crop_start_trs,
        said.crop_stop_trs if row.crop_stop_trs is None else row.crop_stop_trs,
    )
    taken = take_volumes(
        volumes,
        crop,
        row.onset_seconds,
        row.film_offset_seconds,
        film_from,
        job.tr_seconds,
        f"{row.where}: {scan.path}" if row.where else scan.path,
    )
    if said.lengths == "exact":
        _check_length(job, scan, taken, crop, n_units)
    scrubbed = [volumes[0] + tr for start, stop in row.scrub for tr in range(start, stop)]
    if scrubbed and max(scrubbed) >= volumes[1]:
        raise InputError(
            f"{row.where}: scrub names volume {max(scrubbed) - volumes[0]}; the scan has "
            f"{volumes[1] - volumes[0]}, from 0"
        )
    if row.film_offset_seconds:
        # They answer to what was seen before, which was not the film.
        response = response_trs(job.tr_seconds)
        scrubbed += range(taken.volumes[0], taken.volumes[0] + response)
    confounds, columns = None, said.confounds
    if said.strategy:
        columns, outliers = strategy_confounds(scan.path, said.strategy, n_trs)
        scrubbed += outliers
        if said.high_pass_seconds is not None:
            # fMRIPrep's cosines remove what the high-pass does.
            columns = tuple(name for name in columns if not name.startswith("cosine"))
    if columns or said.scrub:
        table = find_confounds(split_source(scan.path)[0], said.confounds_path)
        read_confounds(table, columns, n_trs)
        scrubbed += outlier_trs(table, said.scrub, n_trs) if said.scrub else []
        confounds = absolute_file(str(table))
    kept = sorted(set(scrubbed) & set(range(*taken.volumes)))
    if len(kept) == taken.n_trs:
        raise InputError(f"{scan.path}: every volume that is taken is scrubbed")
    path = absolute_file(scan.path)
    said_of = (choosing, n_units, taken, tuple(kept), confounds)
    plan = ScanPlan(scan.subject, path, *said_of, columns=columns)
    return plan, volumes


def _choosing(job: PrecomputeJob, subject: str) -> dict[str, str]:
    """Return the files that say what a subject's units are, by role."""
    given = {role: getattr(job, role) for role in CHOOSING}
    files = {role: path.replace(PER_SUBJECT, subject) for role, path in given.items() if path}
    if "atlas" in files and "atlas_names" not in files:
        table = find_label_table(Path(files["atlas"]))
        files |= {} if table is None else {"atlas_names": str(table)}
    return {role: absolute_file(file) for role, file in files.items()}


def _volumes(row: ScanRow, path: str, n_trs: int) -> tuple[int, int]:
    first = row.first_volume or 0
    last = n_trs - 1 if row.last_volume is None else row.last_volume
    if max(first, last) >= n_trs:
        raise InputError(
            f"{row.where}: volumes {first} to {last} of {path}, which has {n_trs}, from 0 to "
            f"{n_trs - 1}"
        )
    return first, last + 1


def _check_length(
    job: PrecomputeJob, scan: FoundScan, taken: Taken, crop: tuple[int, int], n_units: int
) -> None:
    """Refuse a scan that is not as long as its film, where nobody has said so."""
    film, n_kept = taken.film, taken.n_volumes - sum(crop)
    seen = taken.first_tr + taken.n_volumes - crop[1] - taken.n_before
    says_when = scan.row is not None and scan.row.says_when
    if seen == film.n_trs or (says_when and seen > film.n_trs):
        return
    if n_units == film.n_trs and not says_when:
        raise InputError(
            f"{scan.path} has {n_kept} TRs of {n_units} voxels, and {film.path} covers "
            f"{film.n_trs} TRs: it seems transposed; (TRs, voxels) is expected"
        )
    cropped = f" after cropping {crop[0]} at the start and {crop[1]} at the end" * any(crop)
    when = f", of which the film's begin with TR {taken.first_tr}," * says_when
    raise InputError(
        f"{scan.path} has {n_kept} TRs{cropped}{when} and {film.path} covers {film.n_trs} TRs of "
        f"{job.tr_seconds:g} s ({film.seconds:.2f} s); crop the scans to their film "
        "(--scan.crop_start_trs, --scan.crop_stop_trs), say when it begins (--scan.table), or, "
        "where scan or film ends before the other, --scan.lengths trim"
    )


def scan_settings(job: PrecomputeJob) -> dict[str, Any]:
    """Return the settings that decide a scan's values."""
    return job.scan.model_dump(mode="json", exclude=set(_NOT_OF_VALUES))
