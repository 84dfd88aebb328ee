"""Which scans there are, whose and of which film: by their names, and by a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import absolute_file
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import split_source
from giblet_ray.names import checked_name
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.scan_name import keys_of_stimuli, scan_name
from giblet_ray.precompute.scan_table import ScanRow, in_words, read_scan_table
from giblet_ray.spaces.array import HDF5_SUFFIXES, array_keys
from giblet_ray.spaces.kinds import whole_scans

Films = Mapping[str, FilmFiles]


@dataclass(frozen=True)
class FoundScan:
    """A scan, whose and of which film it is, and what the table says of it."""

    path: str
    subject: str
    stimulus: str
    label: str
    """Which time, as its name or the table tells it."""
    row: ScanRow | None = None


def find_scans(job: PrecomputeJob, films: Films, rows: Sequence[ScanRow] | None) -> list[FoundScan]:
    """Find the scans: by the files' names, and by the table, which may name files itself.

    Parameters
    ----------
    job : PrecomputeJob
        ``bold`` and ``scan.pattern`` name files.
    films : mapping of str to FilmFiles
        By their names.
    rows : sequence of ScanRow, optional
        The scans, where they are known (default: those of the names and of the table).

    Raises
    ------
    InputError
        For a file whose name does not say whose scan it is, or of which film; for a row of the
        table that is of no scan, or of several.
    """
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
    return [*_joined(found, [row for row in rows if row.file is None]), *of_table]


def _joined(found: Sequence[FoundScan], rows: Sequence[ScanRow]) -> list[FoundScan]:
    """Give each row to the scan that it is of."""
    joined = [*found]
    of_pair: dict[tuple[str, str], list[int]] = {}
    for index, scan in enumerate(found):
        of_pair.setdefault((scan.subject, scan.stimulus), []).append(index)
    for row in rows:
        pair = of_pair.get((row.subject, row.stimulus), [])
        same = [index for index in pair if row.repeat in (None, found[index].label)]
        if not same:
            each = (f"{scan.subject} {scan.stimulus} {scan.label}".strip() for scan in found)
            raise InputError(
                f"{row.where}: {in_words(row)}: there is no such scan; there are "
                f"{', '.join(each) or 'none'} (--bold), and a row may name its file"
            )
        if len(same) > 1:
            labels = ", ".join(filter(None, (found[index].label for index in same)))
            raise InputError(
                f"{row.where}: {in_words(row)}: there are {len(same)} such scans; say which in "
                f"the column repeat: {labels}"
            )
        joined[same[0]] = replace(found[same[0]], row=row)
    return joined


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
