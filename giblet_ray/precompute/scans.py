"""Which scans there are, whose and of which film, and what of each is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.splits import response_trs
from giblet_ray.dataset.storage import absolute_file
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.media import Film, tr_count
from giblet_ray.features.source import split_source
from giblet_ray.names import checked_name
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.makers import scan_options
from giblet_ray.precompute.scan_name import keys_of_stimuli, scan_name
from giblet_ray.precompute.scan_table import ScanRow, check_ranges, in_words, read_scan_table
from giblet_ray.precompute.scan_timing import Taken, take_volumes
from giblet_ray.spaces.array import HDF5_SUFFIXES, array_keys
from giblet_ray.spaces.confounds import (
    find_confounds,
    outlier_trs,
    read_confounds,
    strategy_confounds,
)
from giblet_ray.spaces.kinds import CHOOSING, space_of_scan, whole_scans
from giblet_ray.spaces.labels import find_label_table
from giblet_ray.spaces.scan import scan_shape
from giblet_ray.spaces.space import Space

Films = Mapping[str, FilmFiles]

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
class FoundScan:
    """A scan, whose and of which film it is, and what the table says of it."""

    path: str
    subject: str
    stimulus: str
    label: str
    """Which time, as its name or the table tells it."""
    row: ScanRow | None = None


@dataclass(frozen=True)
class ScanPlan:
    """A scan, and what of it is taken.

    Attributes
    ----------
    subject, path : str
        Whose it is, and its file.
    choosing : dict of str to str
        Files that say what its units are, by role.
    n_units : int
        Voxels, vertices or parcels.
    taken : Taken
        Its volumes, and its film.
    scrubbed : tuple of int
        Volumes of the file that neither train nor judge.
    confounds : str or None
        The table of its confounds.
    n_read : int
        Numbers of a TR that are held to make its units.
    columns : tuple of str
        Those that are regressed out.
    repeat : int
        The first time that the subject saw the film, the second, ...
    phase : int
        Which of the film's phases it sees.
    """

    subject: str
    path: str
    choosing: dict[str, str]
    n_units: int
    taken: Taken
    scrubbed: tuple[int, ...]
    confounds: str | None
    n_read: int = 0
    columns: tuple[str, ...] = ()
    repeat: int = 1
    phase: int = 0

    @property
    def film(self) -> FilmFiles:
        """The film, cut at the TRs of the scan."""
        return self.taken.film

    @property
    def key(self) -> ScanKey:
        """Which scan it is."""
        return ScanKey(self.subject, self.film.name, self.repeat)


Phases = dict[str, tuple[FilmFiles, ...]]
"""Every film as the scans see it: cut into TRs from one or several times of it on."""


def plan_scans(
    job: PrecomputeJob,
    films: Sequence[FilmFiles],
    measured: Mapping[str, Film],
    rows: Sequence[ScanRow] | None = None,
) -> tuple[tuple[ScanPlan, ...], Phases]:
    """Find out whose the scans are and what of each is taken, and compare them with one another.

    Parameters
    ----------
    job : PrecomputeJob
    films : sequence of FilmFiles
    measured : mapping of str to Film
        What is known of each film's streams, by its name.
    rows : sequence of ScanRow, optional
        The scans, where they are known (default: those of the names and of the table).

    Raises
    ------
    InputError
        For a scan that cannot be read, or is of nobody, of no film or of another length; for two
        that are the same; for units that differ between the scans of a subject; for a table that
        does not go with the scans.
    """
    by_name = {film.name: film for film in films}
    found = _found(job, by_name, rows)
    for name in CHOOSING:
        given, without = getattr(job, name), "" if found else "scans (--bold)"
        if name == "atlas_names" and job.atlas is None:
            without = without or "--atlas"
        if given is not None and without:
            raise InputError(f"--{name} {given} is given without {without}")
    table, files = job.scan.confounds_path, {each.path for each in found}
    if table is not None and not Path(table).is_dir() and len(files) > 1:
        raise InputError(
            f"--scan.confounds_path {table} is no folder; {len(files)} scans need one that holds "
            "each scan's table"
        )

    @cache
    def film_from(stimulus: str, seconds: float) -> FilmFiles:
        film = by_name[stimulus]
        if not seconds:
            return film
        n_trs = tr_count(measured[stimulus], film.tr_seconds, seconds, job.film_lengths)
        return film.model_copy(update={"start_seconds": seconds, "n_trs": n_trs})

    plans: dict[tuple[str, str], dict[str, ScanPlan]] = {}
    ranges: list[tuple[ScanRow, str, tuple[int, int]]] = []
    n_units: dict[str, ScanPlan] = {}
    spaces: dict[str, Space] = {}
    for scan in found:
        repeats = plans.setdefault((scan.subject, scan.stimulus), {})
        if (same := repeats.get(scan.label)) is not None:
            raise _same_scan(scan, same.path, job.scan.pattern)
        plan, volumes = _plan_scan(job, scan, partial(film_from, scan.stimulus))
        first = n_units.setdefault(scan.subject, plan)
        if plan.n_units != first.n_units:
            raise InputError(
                f"{scan.path} has {plan.n_units} voxels and {first.path} has {first.n_units}; all "
                "scans of a subject have the same voxels: put them in one space, under one mask"
            )
        if scan.subject in spaces:
            spaces[scan.subject].n_trs(*split_source(scan.path), tr_seconds=None)
        else:
            spaces[scan.subject] = space_of_scan(scan.path, **plan.choosing)
        plan = replace(plan, n_read=spaces[scan.subject].n_read)
        if scan.row is not None:
            ranges.append((scan.row, plan.path, volumes))
        repeats[scan.label] = plan
    check_ranges(ranges)
    phases = {
        name: tuple(
            sorted(
                {
                    scan.film.start_seconds: scan.film
                    for (_, stimulus), repeats in plans.items()
                    for scan in repeats.values()
                    if stimulus == name
                }.values(),
                key=lambda each: each.start_seconds,
            )
        )
        or (film,)
        for name, film in by_name.items()
    }
    numbered = tuple(
        replace(scan, repeat=number, phase=phases[scan.film.name].index(scan.film))
        for repeats in plans.values()
        for number, (_, scan) in enumerate(sorted(repeats.items(), key=_in_order), 1)
    )
    return numbered, phases


def scan_settings(job: PrecomputeJob) -> dict[str, Any]:
    """Return the settings that decide a scan's values."""
    return job.scan.model_dump(mode="json", exclude=set(_NOT_OF_VALUES))


# --- which there are --------------------------------------------------------------------------


def _found(job: PrecomputeJob, films: Films, rows: Sequence[ScanRow] | None) -> list[FoundScan]:
    """Find the scans: by the files' names, and by the table, which may name files itself."""
    if rows is None:
        rows = [] if job.scan.table is None else read_scan_table(job.scan.table)
    for row in rows:
        if row.stimulus not in films:
            raise InputError(
                f"{row.where}: is of stimulus {row.stimulus!r}"
                f"{nearest(row.stimulus, list(films))}; the films are {', '.join(films)}"
            )
    of_table = [
        FoundScan(
            whole_scans((row.file,))[0],
            _subject(row.subject, row.where),
            row.stimulus,
            row.repeat or "",
            row,
        )
        for row in rows
        if row.file is not None
    ]
    listed = {absolute_file(scan.path) for scan in of_table}
    found = [
        _named(path, job.scan.pattern, films)
        for given in whole_scans(job.bold)
        if absolute_file(given) not in listed
        for path in _scans_of(given, job.scan.pattern, films)
        if absolute_file(path) not in listed
    ]
    for row in rows:
        if row.file is None:
            found = _joined(found, row)
    return [*found, *of_table]


def _joined(found: Sequence[FoundScan], row: ScanRow) -> list[FoundScan]:
    """Give a row to the scan that it is of."""
    same = [
        scan
        for scan in found
        if (scan.subject, scan.stimulus) == (row.subject, row.stimulus)
        and row.repeat in (None, scan.label)
    ]
    if len(same) != 1:
        of = [scan.label for scan in found if scan.subject == row.subject and scan.label]
        there = ", ".join(f"{scan.subject} {scan.stimulus} {scan.label}".strip() for scan in found)
        raise InputError(
            f"{row.where}: {in_words(row)}: "
            + (
                f"there are {len(same)} such scans; say which in the column repeat: {', '.join(of)}"
                if same
                else f"there is no such scan; there are {there or 'none'} (--bold), and a row may "
                "name its file"
            )
        )
    return [replace(scan, row=row) if scan is same[0] else scan for scan in found]


def _named(path: str, pattern: str, films: Films) -> FoundScan:
    names = scan_name(path, pattern, tuple(films))
    film = _film_of(path, names, films, pattern)
    return FoundScan(path, _subject(names["subject"], path), film.name, names.get("repeat", ""))


def _subject(name: str, where: str) -> str:
    return checked_name(name, f"{where}: subject")


def _scans_of(path: str, pattern: str, films: Films) -> list[str]:
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


def _film_of(path: str, names: dict[str, str], films: Films, pattern: str) -> FilmFiles:
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


def _same_scan(scan: FoundScan, other: str, pattern: str) -> InputError:
    again = f", repeat {scan.label}" if scan.label else ""
    return InputError(
        f"{scan.path} and {other} are both subject {scan.subject}'s scan of {scan.stimulus}{again};"
        " name one, or, if it was seen twice, say where names tell the {repeat}, as in "
        f"'sub-{{subject}}_ses-{{repeat}}' (--scan.pattern is {pattern!r})"
    )


def _in_order(repeat: tuple[str, ScanPlan]) -> tuple[int, str]:
    """Sort 2 before 10, whatever their zeros."""
    label = repeat[0].lstrip("0")
    return len(label), label


# --- what of each is taken --------------------------------------------------------------------


def _plan_scan(
    job: PrecomputeJob, scan: FoundScan, film_from: Any
) -> tuple[ScanPlan, tuple[int, int]]:
    """Return what of a scan is taken, and its volumes in its file."""
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
    if scrubbed and scrubbed[-1] >= volumes[1]:
        raise InputError(
            f"{row.where}: scrub names volume {scrubbed[-1] - volumes[0]}; the scan has "
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


# --- for the user -----------------------------------------------------------------------------


def cut_in_words(scan: ScanPlan) -> dict[str, int]:
    """Return what of a scan and its film is not used, by what it is: numbers of TRs."""
    taken = scan.taken
    cut = {
        "volumes before": taken.n_before,
        "volumes after": taken.n_after,
        "film TRs without BOLD": taken.n_lacking,
        "scrubbed": len(scan.scrubbed),
    }
    return {name: n for name, n in cut.items() if n}


def scans_table(scans: Sequence[ScanPlan]) -> list[str]:
    """Return a line per scan of what is taken of it, under a header."""
    rows = [("subject", "stimulus", "repeat", "file", "volumes", "film begins", "film TRs", "cut")]
    for scan in scans:
        taken = scan.taken
        last = min(taken.stop_tr, scan.film.n_trs) - 1
        after = max(0, taken.stop_tr - scan.film.n_trs)
        begins = taken.onset_seconds + (taken.n_before * scan.film.tr_seconds)
        rows.append(
            (
                scan.subject,
                scan.film.name,
                str(scan.repeat),
                Path(scan.path).name,
                f"{taken.volumes[0]} to {taken.volumes[1] - 1}",
                f"{begins:.6g} s",
                f"{max(0, taken.first_tr)} to {last} of {scan.film.n_trs}"
                + (f", {after} after" if after else ""),
                ", ".join(f"{n} {name}" for name, n in cut_in_words(scan).items()) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
