"""The films of a BIDS data set, and which of them each scan saw, by its events or its name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError
from giblet_ray.features.aligned import ALIGNED_SUFFIXES
from giblet_ray.features.annotation_table import TABLE_SUFFIXES
from giblet_ray.features.source import matching_files, read_whole
from giblet_ray.features.subtitles import SUBTITLE_SUFFIXES
from giblet_ray.features.tsv import read_tsv
from giblet_ray.precompute.bids_scans import BidsScan
from giblet_ray.precompute.scan_name import film_name
from giblet_ray.precompute.scan_table import ScanRow

_PICTURES = (".mp4", ".mkv", ".m4v", ".mov", ".avi", ".webm", ".wmv", ".mpg", ".mpeg")
_FILMS = (*_PICTURES, ".wav", ".mp3", ".m4a", ".flac", ".ogg")
_TEXTS = (*SUBTITLE_SUFFIXES, *TABLE_SUFFIXES, *ALIGNED_SUFFIXES)
"""Of several texts beside a film, that with the first of these is taken."""
_MOST_NAMED = 5
"""Files that are named of those that are not used."""
Films = Mapping[str, list[Path]]


def find_films(job: PrecomputeJob) -> dict[str, list[Path]]:
    """Return the films of ``--stimuli``, or of ``--film``, by name: one, where it is to be used.

    Raises
    ------
    InputError
        If there is none, or one is named as no ``--film_pattern``.
    """
    if job.film:
        paths = [Path(path) for path in matching_files(job.film, "--film")]
    else:
        folder = Path(str(job.stimuli))
        if not folder.is_dir():
            raise InputError(f"--stimuli {folder}: no such folder; that of the films is expected")
        paths = [path for path in _files(folder.rglob("*")) if path.suffix.lower() in _FILMS]
        if not paths:
            raise InputError(f"--stimuli {folder}: holds no film ({', '.join(_FILMS)})")
    films: dict[str, list[Path]] = {}
    for path in paths:
        films.setdefault(film_name(str(path), job.film_pattern), []).append(path)
    return films


def find_texts(
    job: PrecomputeJob, films: Films, seen: Mapping[str, Path]
) -> tuple[dict[str, str], list[str]]:
    """Return the text beside each film that scans saw, under its name, and a note of other files.

    Those are all of ``--stimuli``, or what has the name of a film of ``--film``.
    """
    where, files = f"--stimuli {job.stimuli}", Path(str(job.stimuli)).rglob("*")
    if job.film:
        folders = {path.parent for paths in films.values() for path in paths}
        where, files = "beside --film", (file for each in folders for file in each.glob("*"))
    beside: dict[Path, list[Path]] = {}
    stems = _by_stem(films)
    for file in _files(files):
        if not job.film or file.stem in stems:
            beside.setdefault(file.with_suffix(""), []).append(file)
    texts = {
        name: min(found, key=lambda file: _TEXTS.index(file.suffix.lower()))
        for name, film in seen.items()
        if (found := [each for each in beside.get(film.with_suffix(""), ()) if _is_text(each)])
    }
    used = {*map(str, texts.values()), *(str(film).partition("::")[0] for film in seen.values())}
    left = [
        file.name
        for of_name in beside.values()
        for file in of_name
        if str(file) not in used and not (job.text and _is_text(file))
    ]
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    notes = [f"{where}: not used: {', '.join(left[:_MOST_NAMED])}{more}"] if left else []
    return {name: str(text) for name, text in texts.items()}, notes


def _by_stem(films: Films) -> dict[str, str]:
    """Return each film's name by that of its file, without its ending."""
    return {path.stem: name for name, paths in films.items() for path in paths}


def _files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among paths, in order: links to nothing too, which are told when opened, and
    no hidden ones."""
    return sorted(path for path in paths if not (path.is_dir() or path.name.startswith(".")))


def _is_text(file: Path) -> bool:
    if file.suffix.lower() == ".json":  # gentle's; BIDS describes a film in one, too
        return file.is_file() and b'"words"' in read_whole(file)
    return file.suffix.lower() in _TEXTS


def rows_of_scan(
    job: PrecomputeJob, scan: BidsScan, films: Films, tr_seconds: float, *, of_one_run: bool
) -> list[ScanRow]:
    """Return the films that a scan saw: by its events, or by names.

    Parameters
    ----------
    job : PrecomputeJob
    scan : BidsScan
    films : mapping of str to list of Path
        See :func:`find_films`.
    tr_seconds : float
        TR of the data set.
    of_one_run : bool
        Whether no scan is of another run than any other: then names need not tell the run.

    Raises
    ------
    InputError
        If its events name none of the films, or neither they nor names tell which it saw.
    """
    shift = scan.start_seconds - scan.tr_seconds / 2
    events = _events(job, scan)
    if events is not None and (onsets := _onsets(events, films)):
        firsts = [max(0, math.floor((onset - shift) / tr_seconds)) for _, onset in onsets]
        firsts[0] = 0
        rows = []
        for number, (name, onset) in enumerate(onsets):
            later = firsts[number + 1 :]
            n_before = sum(each == name for each, _ in onsets[:number])
            rows.append(
                ScanRow(
                    where=str(events),
                    subject=scan.subject,
                    stimulus=name,
                    repeat=f"{scan.name}_{n_before + 1}" if n_before else scan.name,
                    file=scan.path,
                    first_volume=firsts[number] if len(onsets) > 1 else None,
                    last_volume=later[0] - 1 if later else None,
                    onset_seconds=round(onset - shift - firsts[number] * tr_seconds, 6),
                )
            )
        return rows
    name = _named_film(scan, films, of_one_run=of_one_run)
    begins = None if abs(shift) < 1e-6 else -shift
    row = ScanRow(scan.path, scan.subject, name, scan.name, scan.path, onset_seconds=begins)
    return [row]


def _named_film(scan: BidsScan, films: Films, *, of_one_run: bool) -> str:
    """Return the film named after a scan's task and run; of one run, after the task, or the only
    one that there is."""
    task, run = scan.entities["task"], scan.entities.get("run", "")
    number = run.lstrip("0") or run
    marks = (f"{task}_run-", f"{task}_", task, "run-")
    names = [f"{mark}{each}" for each in (run, number) for mark in marks if each]
    if of_one_run:
        names = [task, *names]
        told = re.search(rf"run-0*(\d+)|^{re.escape(task)}_?0*(\d+)$", next(iter(films)))
        if len(films) == 1 and not (run and told and number not in told.groups()):
            names += films
    for name in names:
        if name in films:
            return name
    raise InputError(
        f"{scan.path}: which of the films it is of is not told by events with a stim_file, nor by "
        f"its task and run; the films are {', '.join(films)}: name one {task}_run-{run or 1}, or "
        "leave out --bids, and use --bold and --scan.table"
    )


def _events(job: PrecomputeJob, scan: BidsScan) -> Path | None:
    """Return the table of a scan's events: beside it, in the raw data set, or above for all."""
    path, told = Path(scan.path), scan.entities
    root = Path(str(job.bids))
    of_session = [f"{each}-{told[each]}" for each in ("sub", "ses") if each in told]
    of_task = [f"{each}-{told[each]}" for each in ("task", "acq", "run") if each in told]
    names = [*of_session, *of_task]
    roots = [root]
    if job.bids_raw is not None:
        roots = [Path(job.bids_raw)]
    elif root.parent.name == "derivatives":
        roots += [root.parent.parent]
    elif root.name == "derivatives":
        roots += [root.parent]
    places = [path.with_name("_".join(names) + "_events.tsv")]
    for each in roots:
        places.append(Path(each, *of_session, "func", "_".join(names) + "_events.tsv"))
        places.append(each / ("_".join(of_task) + "_events.tsv"))
        places.append(each / f"task-{told['task']}_events.tsv")
    return next((place for place in places if place.is_file()), None)


def _onsets(events: Path, films: Films) -> list[tuple[str, float]]:
    """Return the films that a table of events names, in the order in which they begin.

    Rows of one name that follow one another, as one for each picture, are one showing; a film that
    is named again after something else is shown again.
    """
    named: list[tuple[float, str]] = []
    others: list[str] = []
    by_stem = _by_stem(films)
    for number, row in read_tsv(events, str(events)).rows:
        stim_file = row.get("stim_file") or "n/a"
        stem = Path(stim_file).stem
        name = by_stem.get(stem, stem)
        if stim_file == "n/a":
            continue
        onset = _seconds(row.get("onset"))
        if name not in films:
            others.append(stim_file)
        elif onset is None:
            raise InputError(
                f"{events}, line {number}: onset is {row.get('onset')!r}; seconds are expected"
            )
        if onset is not None:
            named.append((onset, name))
    named.sort()
    shown = [
        (name, onset)
        for index, (onset, name) in enumerate(named)
        if name in films and (index == 0 or named[index - 1][1] != name)
    ]
    if others and not shown:
        raise InputError(
            f"{events}: its stim_file, {others[0]}, is none of the films, which are "
            f"{', '.join(films)}: put it beside them; or, for scans of some films alone, leave out "
            "--bids, and use --bold and --scan.table"
        )
    return shown


def _seconds(cell: str | None) -> float | None:
    """Return a time, if a cell holds one."""
    try:
        seconds = float(cell or "n/a")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
