"""Which scans there are, whose and of which film, and what of each is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import absolute
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import split_source
from giblet_ray.names import checked_name
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.makers import scan_options
from giblet_ray.precompute.scan_name import keys_of_stimuli, scan_name
from giblet_ray.spaces.array import HDF5_SUFFIXES, array_keys
from giblet_ray.spaces.confounds import find_confounds, read_confounds
from giblet_ray.spaces.kinds import CHOOSING, space_of_scan, whole_scans
from giblet_ray.spaces.labels import find_label_table
from giblet_ray.spaces.scan import scan_shape
from giblet_ray.spaces.space import Space


@dataclass(frozen=True)
class ScanPlan:
    """A scan, and whose it is."""

    subject: str
    film: FilmFiles
    path: str
    choosing: dict[str, str]
    """Files that say what its units are, by role."""
    n_voxels: int
    confounds: str | None
    repeat: int = 1
    """The first time that the subject saw the film, the second, ..."""


def plan_scans(job: PrecomputeJob, films: Sequence[FilmFiles]) -> tuple[ScanPlan, ...]:
    """Find out whose the scans are, and compare their shapes with the films and one another.

    Raises
    ------
    InputError
        For a scan that cannot be read, or is of nobody, of no film or of another length; for two
        that are the same; for units that differ between the scans of a subject.
    """
    for name in CHOOSING:
        given, without = getattr(job, name), "" if job.bold else "scans (--bold)"
        if name == "atlas_names" and job.atlas is None:
            without = without or "--atlas"
        if given is not None and without:
            raise InputError(f"--{name} {given} is given without {without}")
    by_name = {film.name: film for film in films}
    paths = [
        path
        for given in whole_scans(job.bold)
        for path in _scans_of(given, job.scan.pattern, by_name)
    ]
    table = job.scan.confounds_path
    if table is not None and not Path(table).is_dir() and len(paths) > 1:
        raise InputError(
            f"--scan.confounds_path {table} is no folder; {len(paths)} scans need one that holds "
            "each scan's table"
        )
    scans: dict[tuple[str, str], dict[str, ScanPlan]] = {}
    n_units: dict[str, tuple[int, str]] = {}
    spaces: dict[str, Space] = {}
    for path in paths:
        names = scan_name(path, job.scan.pattern, tuple(by_name))
        film = _film_of(path, names, by_name, job.scan.pattern)
        subject = checked_name(names["subject"], f"{path}: subject")
        scan = _plan_scan(job, path, subject, film)
        repeats = scans.setdefault((subject, film.name), {})
        label = names.get("repeat", "")
        if (same := repeats.get(label)) is not None:
            again = f", repeat {label}" if label else ""
            raise InputError(
                f"{path} and {same.path} are both subject {subject}'s scan of {film.name}{again}; "
                "name one, or, if it was seen twice, say where names tell the {repeat}, as in "
                f"'sub-{{subject}}_ses-{{repeat}}' (--scan.pattern is {job.scan.pattern!r})"
            )
        n, first = n_units.setdefault(subject, (scan.n_voxels, path))
        if scan.n_voxels != n:
            raise InputError(
                f"{path} has {scan.n_voxels} voxels and {first} has {n}; all scans of a subject "
                "have the same voxels: put them in one space, under one mask"
            )
        if subject in spaces:
            spaces[subject].n_trs(*split_source(path), tr_seconds=None)
        else:
            spaces[subject] = space_of_scan(path, **scan.choosing)
        repeats[label] = scan
    return tuple(
        replace(scan, repeat=number)
        for repeats in scans.values()
        for number, (_, scan) in enumerate(sorted(repeats.items(), key=_in_order), 1)
    )


def scan_settings(job: PrecomputeJob) -> dict[str, Any]:
    """Return the settings that decide a scan's values."""
    return job.scan.model_dump(mode="json", exclude={"pattern", "confounds_path"})


def _scans_of(path: str, pattern: str, films: Mapping[str, FilmFiles]) -> list[str]:
    """Return a scan's path, or those of the films' scans in a file whose keys the pattern names."""
    is_hdf5 = path.lower().endswith(HDF5_SUFFIXES)
    if "::" not in pattern or not is_hdf5:
        return [path]
    keys = array_keys(split_source(path)[0])
    if found := keys_of_stimuli(path, keys, pattern, tuple(films)):
        return [f"{path}::{key}" for key in found]
    listed = ", ".join(keys[:5]) + ", ..." * (len(keys) > 5)
    raise InputError(
        f"{path}: none of its {len(keys)} data sets (TRs, voxels) is of a film by --scan.pattern "
        f"{pattern!r}; they are {listed or 'none'}, the films {', '.join(films)}"
    )


def _in_order(repeat: tuple[str, ScanPlan]) -> tuple[int, str]:
    """Sort 2 before 10, whatever their zeros."""
    label = repeat[0].lstrip("0")
    return len(label), label


def _film_of(
    path: str, names: dict[str, str], films: dict[str, FilmFiles], pattern: str
) -> FilmFiles:
    if "stimulus" not in names:
        if len(films) > 1:
            raise InputError(
                f"--scan.pattern {pattern!r} has no {{stimulus}}; with {len(films)} films it tells "
                "which one a scan is of, as in 'sub-{subject}_task-{stimulus}'"
            )
        return next(iter(films.values()))
    if names["stimulus"] not in films:
        raise InputError(
            f"{path}: is of stimulus {names['stimulus']!r} by --scan.pattern {pattern!r}"
            f"{nearest(names['stimulus'], list(films))}; the films are {', '.join(films)}"
        )
    return films[names["stimulus"]]


def _plan_scan(job: PrecomputeJob, path: str, subject: str, film: FilmFiles) -> ScanPlan:
    options = scan_options(scan_settings(job), job.scan.confounds_path)
    choosing = _choosing(job, subject)
    n_trs, n_voxels = scan_shape(path, **choosing, tr_seconds=job.tr_seconds, options=options)
    crop = (job.scan.crop_start_trs, job.scan.crop_stop_trs)
    if n_trs != film.n_trs:
        if n_voxels == film.n_trs:
            raise InputError(
                f"{path} has {n_trs} TRs of {n_voxels} voxels, and {film.path} covers {film.n_trs} "
                "TRs: it seems transposed; (TRs, voxels) is expected"
            )
        cropped = f" after cropping {crop[0]} at the start and {crop[1]} at the end" * any(crop)
        raise InputError(
            f"{path} has {n_trs} TRs{cropped} and {film.path} covers {film.n_trs} TRs of "
            f"{job.tr_seconds:g} s ({film.seconds:.2f} s); crop the scans to their film "
            "(--scan.crop_start_trs, --scan.crop_stop_trs), or cut the film to what was scanned"
        )
    confounds = None
    if options.confounds:
        table = find_confounds(split_source(path)[0], options.confounds_path)
        read_confounds(table, options.confounds, n_trs + sum(crop))
        confounds = absolute(str(table))
    return ScanPlan(subject, film, absolute(path), choosing, n_voxels, confounds)


def _choosing(job: PrecomputeJob, subject: str) -> dict[str, str]:
    """Return the files that say what a subject's units are, by role."""
    given = {role: getattr(job, role) for role in CHOOSING}
    files = {role: path.replace(PER_SUBJECT, subject) for role, path in given.items() if path}
    if "atlas" in files and "atlas_names" not in files:
        table = find_label_table(Path(files["atlas"]))
        files |= {} if table is None else {"atlas_names": str(table)}
    return {role: absolute(file) for role, file in files.items()}
