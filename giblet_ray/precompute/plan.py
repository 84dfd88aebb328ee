"""Everything about a data set that can be known before any of it is made.

Whatever is wrong with the files and settings, and can be told without decoding films and scans, is
told here, before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import absolute_file, sha256_of_file
from giblet_ray.dataset.stored import Source
from giblet_ray.errors import InputError
from giblet_ray.features.media import Film, probe_film, tr_count, uneven_seconds
from giblet_ray.features.source import split_source
from giblet_ray.names import checked_name
from giblet_ray.parts.part import FILM, PICTURES, SOUND, TEXT, FilmFiles, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.precompute.bids import read_bids
from giblet_ray.precompute.chosen import NO_TEXT, chosen_parts, films_of, parts_of_films
from giblet_ray.precompute.named_files import array_of_film, texts_of_films, with_matching_files
from giblet_ray.precompute.repeats import as_one, as_repeats, by_shard, role_of
from giblet_ray.precompute.scan_name import film_name
from giblet_ray.precompute.scan_plan import ScanPlan, scan_settings
from giblet_ray.precompute.scans import Phases, plan_scans
from giblet_ray.precompute.units import BOLD, Unit
from giblet_ray.spaces.kinds import CHOOSING, files_of_labels, files_of_scan

_READERS = 8
"""Files that are read at a time for their checksums."""
_MOST_PHASES = 3
"""Copies of a film that nobody is told of."""

_BOLD_LIBRARIES = ("h5py", "nibabel", "nilearn", "numpy", "scipy")
"""Packages that read scans."""


@dataclass(frozen=True)
class Plan:
    """What will be made.

    Attributes
    ----------
    job : PrecomputeJob
        Of a BIDS data set, with what was found in it.
    said : tuple of str
        What was found and is missing in it, line by line.
    films, scans : tuple
        What goes in; of a film that scans see at several phases, the first.
    phases : dict of str to tuple of FilmFiles
        All phases of each film, by its name.
    parts : dict of str to Part
        What is made of the films, by name.
    units : tuple of Unit
        One per shard.
    sources : dict of str to Source
        Name and checksum of every file that goes in, by its path.
    notes : tuple of str
        What the films lack, and files beside them that are not used, for the user to be told.
    """

    job: PrecomputeJob
    said: tuple[str, ...]
    films: tuple[FilmFiles, ...]
    scans: tuple[ScanPlan, ...]
    phases: Phases
    parts: dict[str, Part]
    units: tuple[Unit, ...]
    sources: dict[str, Source]
    notes: tuple[str, ...] = ()


def make_plan(job: PrecomputeJob) -> Plan:
    """Check what was given, and say what will be made of it.

    Raises
    ------
    InputError
        For every fault that needs no decoding: see the module's functions.
    """
    bids = None if job.bids is None else read_bids(job)
    job = with_matching_files(job if bids is None else bids.job)
    parts = chosen_parts(job)
    films, measured = _plan_films(job)
    parts, notes = parts_of_films(parts, films)
    notes = (*_uneven(measured, job.tr_seconds), *notes)
    values = {name: _value(part, films_of(part, films)) for name, part in parts.items()}
    scans, phases = plan_scans(job, films, measured, None if bids is None else bids.rows)
    later = [film for of_film in phases.values() for film in of_film if film.start_seconds]
    for part in parts.values():
        if of_later := films_of(part, later):
            _value(part, [films_of(part, films)[0], *of_later])
    files = [file for film in films for file in film.files.values()]
    files += [file for scan in scans for file in _files_of(scan).values()]
    sources = _checksums(files)
    phases = {
        name: tuple(
            film.model_copy(update={"sha256": _sha256_of(film.files, sources)}) for film in of_film
        )
        for name, of_film in phases.items()
    }
    films = tuple(of_film[0] for of_film in phases.values())

    def unit(film: FilmFiles, files: dict[str, str], **fields: Any) -> Unit:
        return Unit(
            stimulus=film.name,
            start_seconds=film.start_seconds,
            tr_seconds=film.tr_seconds,
            film_seconds=film.seconds,
            row_group_trs=job.row_group_trs,
            files=files,
            sha256=_sha256_of(files, sources),
            **fields,
        )

    units = []
    for name, part in parts.items():
        settings, libraries = part.recipe(films_of(part, films)), part.versions()
        units += [
            unit(
                film,
                {role: film.files[role] for role in part.made_from},
                part=name,
                phase=phase,
                n_trs=film.n_trs,
                settings=settings,
                libraries=libraries,
                value=values[name],
            )
            for of_film in phases.values()
            for phase, film in enumerate(films_of(part, of_film))
        ]
    for of_shard in by_shard(scans, job.scan.repeats == "average"):
        scan, repeats = as_one(of_shard), as_repeats(of_shard) if len(of_shard) > 1 else ()
        units.append(
            unit(
                scan.film,
                _files_of_shard(of_shard),
                repeats=repeats,
                part=BOLD,
                subject=scan.subject,
                repeat=scan.repeat,
                phase=scan.phase,
                volumes=scan.taken.volumes,
                onset_seconds=scan.taken.onset_seconds,
                scrubbed=scan.scrubbed,
                n_read=scan.n_read,
                n_trs=scan.taken.n_trs,
                settings={**scan_settings(job), "confounds": list(scan.columns)},
                libraries={name: version(name) for name in (*_BOLD_LIBRARIES, "giblet_ray")},
                value=ValueType(dtype=job.scan.dtype, shape=(scan.n_units,)),
            )
        )
    said = () if bids is None else tuple(bids.said)
    notes = (*notes, *_many_phases(phases), *(() if bids is None else bids.notes))
    return Plan(job, said, films, scans, phases, parts, tuple(units), sources, notes)


def _files_of_shard(scans: Sequence[ScanPlan]) -> dict[str, str]:
    """Return all files that a shard of BOLD is made from, by role."""
    return {
        role if role in CHOOSING else role_of(role, number): file
        for number, scan in enumerate(scans, 1)
        for role, file in _files_of(scan).items()
    }


def _files_of(scan: ScanPlan) -> dict[str, str]:
    """Return all files that a scan is read from, by role."""
    files = {"scan": scan.path, **scan.choosing}
    files |= {} if scan.confounds is None else {"confounds": scan.confounds}
    others = {"scan": files_of_scan(scan.path)[1:]}
    if "atlas" in scan.choosing:
        others["atlas"] = files_of_labels(scan.choosing["atlas"])[1:]
    return files | {
        f"{role}_{number}": file
        for role, of_role in others.items()
        for number, file in enumerate(of_role, 2)
    }


def _value(part: Part, films: Sequence[FilmFiles]) -> ValueType:
    """Check the files of a part; return the type of its rows, which is the same for all films."""
    for film in films:
        if film.start_seconds and not part.from_any_second:
            raise InputError(
                f"part {part.name}: cuts a film from its beginning on, and a scan sees {film.name} "
                f"from {film.start_seconds:g} s on: it is to heed FilmFiles.start_seconds, and say "
                "so (from_any_second)"
            )
        part.check(film)
    value = part.value(films[0])
    if not part.reading.reads(value):
        raise InputError(
            f"part {part.name}: its rows are {value}; its encoder, {part.encoder!r}, reads "
            f"{part.reading.accepted}"
        )
    for film in films[1:]:
        if (found := part.value(film)) != value:
            raise InputError(
                f"part {part.name}: is {found} of {film.name} and {value} of {films[0].name}; "
                "the rows of all films are of one type"
            )
    return value


def _sha256_of(files: Mapping[str, str], sources: Mapping[str, Source]) -> dict[str, str]:
    return {role: sources[file].sha256 for role, file in files.items()}


def _plan_films(job: PrecomputeJob) -> tuple[tuple[FilmFiles, ...], dict[str, Film]]:
    """Measure the films, each once, and find the files that belong to each."""
    if not job.film:
        raise InputError("--film is missing: at least one film is needed")
    text_of = texts_of_films(job)
    films: dict[str, FilmFiles] = {}
    measured: dict[str, Film] = {}
    for index, path in enumerate(job.film):
        film = probe_film(path)
        name = checked_name(film_name(path, job.film_pattern), f"{path}: stimulus")
        if name in films:
            raise InputError(
                f"{path} and {films[name].path} are both named {name}; a film's file name is its "
                "stimulus's: rename one"
            )
        text = text_of(index, name)
        files = {FILM: path, **({} if text == NO_TEXT else {TEXT: text})}
        files |= {array: array_of_film(array, file, name, job) for array, file in job.array.items()}
        ends = (film.duration_seconds, film.audio_duration_seconds)
        measured[name] = film
        films[name] = FilmFiles(
            name=name,
            n_trs=tr_count(film, job.tr_seconds, lengths=job.film_lengths),
            tr_seconds=job.tr_seconds,
            # Words are said until the sound ends.
            seconds=max(ends) if job.film_lengths == "trim" else ends[0],
            files={role: absolute_file(file) for role, file in files.items()},
            has=(PICTURES,) * film.has_video + (SOUND,) * film.has_audio,
        )
    return tuple(films.values()), measured


def _uneven(measured: Mapping[str, Film], tr_seconds: float) -> list[str]:
    """Return a note of each film whose pictures and sound end more than a TR apart."""
    return [
        f"{name}: its pictures end at {film.duration_seconds:.2f} s and its sound at "
        f"{film.audio_duration_seconds:.2f} s; TRs that have both are taken"
        for name, film in measured.items()
        if uneven_seconds(film) > tr_seconds
    ]


def _many_phases(phases: Phases) -> list[str]:
    """Return a note of each film that is stored often, as onsets that were logged make it."""
    return [
        f"{name} is stored {len(of_film)} times, as its scans' onsets lie at so many times within "
        "a TR, told apart to 1 ms: those that are rounded alike share one"
        for name, of_film in phases.items()
        if len(of_film) > _MOST_PHASES
    ]


def _checksums(files: Iterable[str]) -> dict[str, Source]:
    """Read all files once, several at a time."""
    whole = {name: split_source(name)[0] for name in files}
    paths = list(dict.fromkeys(whole.values()))
    with ThreadPoolExecutor(_READERS) as threads:
        sha256 = dict(zip(paths, threads.map(sha256_of_file, paths), strict=True))
    return {name: Source(name=file.name, sha256=sha256[file]) for name, file in whole.items()}
