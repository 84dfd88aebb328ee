"""Everything about a data set that can be known before any of it is made.

Whatever is wrong with the files and settings, and can be told without decoding films and scans, is
told here, before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import absolute, sha256_of_file
from giblet_ray.dataset.stored import Source
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.media import probe_film, tr_count
from giblet_ray.features.source import split_source
from giblet_ray.names import checked_name
from giblet_ray.parts.part import FILM, TEXT, FilmFiles, Part
from giblet_ray.parts.value import ValueType
from giblet_ray.precompute.chosen import chosen_parts
from giblet_ray.precompute.makers import scan_options
from giblet_ray.precompute.scan_name import scan_name
from giblet_ray.precompute.units import BOLD, Unit
from giblet_ray.spaces.confounds import find_confounds, read_confounds
from giblet_ray.spaces.scan import scan_shape

_READERS = 8
"""Files that are read at a time for their checksums."""

_BOLD_LIBRARIES = ("h5py", "nibabel", "nilearn", "numpy")
"""Packages that read scans."""


@dataclass(frozen=True)
class ScanPlan:
    """A scan, and whose it is."""

    subject: str
    film: FilmFiles
    path: str
    n_voxels: int
    confounds: str | None
    repeat: int = 1
    """The first time that the subject saw the film, the second, ..."""


@dataclass(frozen=True)
class Plan:
    """What will be made.

    Attributes
    ----------
    films, scans : tuple
        What goes in.
    parts : dict of str to Part
        What is made of the films, by name.
    units : tuple of Unit
        One per shard.
    sources : dict of str to Source
        Name and checksum of every file that goes in, by its path.
    """

    films: tuple[FilmFiles, ...]
    scans: tuple[ScanPlan, ...]
    parts: dict[str, Part]
    units: tuple[Unit, ...]
    sources: dict[str, Source]


def make_plan(job: PrecomputeJob) -> Plan:
    """Check what was given, and say what will be made of it.

    Raises
    ------
    InputError
        For every fault that needs no decoding: see the module's functions.
    """
    parts = chosen_parts(job)
    films = _plan_films(job)
    values = {name: _value(part, films) for name, part in parts.items()}
    scans = _plan_scans(job, films)
    mask = None if job.mask is None else absolute(job.mask)
    files = [file for film in films for file in film.files.values()]
    files += [scan.path for scan in scans]
    files += [scan.confounds for scan in scans if scan.confounds is not None]
    files += [] if mask is None else [mask]
    sources = _checksums(files)
    films = tuple(
        film.model_copy(update={"sha256": _sha256_of(film.files, sources)}) for film in films
    )

    def unit(film: FilmFiles, files: dict[str, str], **fields: Any) -> Unit:
        return Unit(
            stimulus=film.name,
            n_trs=film.n_trs,
            tr_seconds=film.tr_seconds,
            film_seconds=film.seconds,
            row_group_trs=job.row_group_trs,
            files=files,
            sha256=_sha256_of(files, sources),
            **fields,
        )

    units = []
    for name, part in parts.items():
        settings, libraries = part.recipe(films), part.versions()
        units += [
            unit(
                film,
                {role: film.files[role] for role in part.made_from},
                part=name,
                settings=settings,
                libraries=libraries,
                value=values[name],
            )
            for film in films
        ]
    for scan in scans:
        read = {"scan": scan.path, "mask": mask, "confounds": scan.confounds}
        units.append(
            unit(
                scan.film,
                {role: file for role, file in read.items() if file is not None},
                part=BOLD,
                subject=scan.subject,
                repeat=scan.repeat,
                settings=_scan_settings(job),
                libraries={name: version(name) for name in (*_BOLD_LIBRARIES, "giblet_ray")},
                value=ValueType(dtype=job.scan.dtype, shape=(scan.n_voxels,)),
            )
        )
    return Plan(films, scans, parts, tuple(units), sources)


def _value(part: Part, films: Sequence[FilmFiles]) -> ValueType:
    """Check the files of a part; return the type of its rows, which is the same for all films."""
    for film in films:
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


def _scan_settings(job: PrecomputeJob) -> dict[str, Any]:
    return job.scan.model_dump(mode="json", exclude={"pattern", "confounds_path"})


def _plan_films(job: PrecomputeJob) -> tuple[FilmFiles, ...]:
    """Measure the films, and find the files that belong to each."""
    if not job.film:
        raise InputError("--film is missing: at least one film is needed")
    if job.text and len(job.text) != len(job.film):
        raise InputError(
            f"--text names {len(job.text)} and --film {len(job.film)} files; give one text per "
            "film, in the same order, or none"
        )
    films: dict[str, FilmFiles] = {}
    for index, path in enumerate(job.film):
        film = probe_film(path, require_audio=True)
        name = checked_name(Path(path).stem, f"{path}: stimulus")
        if name in films:
            raise InputError(
                f"{path} and {films[name].path} are both named {name}; a film's file name is its "
                "stimulus's: rename one"
            )
        files = {FILM: path, **({TEXT: job.text[index]} if job.text else {})}
        files |= {array: _array_of(array, file, name, job) for array, file in job.array.items()}
        films[name] = FilmFiles(
            name=name,
            n_trs=tr_count(film, job.tr_seconds),
            tr_seconds=job.tr_seconds,
            seconds=film.duration_seconds,
            files={role: absolute(file) for role, file in files.items()},
        )
    return tuple(films.values())


def _array_of(array: str, file: str, stimulus: str, job: PrecomputeJob) -> str:
    """Return the file of a film's array, whose name may hold ``{stimulus}``."""
    if "{stimulus}" not in file and len(job.film) > 1:
        raise InputError(
            f"--array {array}={file}: names one file for {len(job.film)} films; {{stimulus}} in it "
            f"stands for each film's name, as in {array}=features/{{stimulus}}.npy"
        )
    return file.replace("{stimulus}", stimulus)


def _plan_scans(job: PrecomputeJob, films: Sequence[FilmFiles]) -> tuple[ScanPlan, ...]:
    """Find out whose the scans are, and compare their shapes with the films and one another."""
    if job.mask is not None and not job.bold:
        raise InputError(f"--mask {job.mask} is given without scans (--bold)")
    single_table = (
        job.scan.confounds_path is not None and not Path(job.scan.confounds_path).is_dir()
    )
    if single_table and len(job.bold) > 1:
        raise InputError(
            f"--scan.confounds_path {job.scan.confounds_path} is no folder; "
            f"{len(job.bold)} scans need one that holds each scan's table"
        )
    by_name = {film.name: film for film in films}
    scans: dict[tuple[str, str], dict[str, ScanPlan]] = {}
    n_units: dict[str, tuple[int, str]] = {}
    for path in job.bold:
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
        repeats[label] = scan
    return tuple(
        replace(scan, repeat=number)
        for repeats in scans.values()
        for number, (_, scan) in enumerate(sorted(repeats.items(), key=_in_order), 1)
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
    options = scan_options(_scan_settings(job), job.scan.confounds_path)
    n_trs, n_voxels = scan_shape(path, job.mask, tr_seconds=job.tr_seconds, options=options)
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
    return ScanPlan(subject, film, absolute(path), n_voxels, confounds)


def _checksums(files: Iterable[str]) -> dict[str, Source]:
    """Read all files once, several at a time."""
    names = list(dict.fromkeys(files))

    def of_file(name: str) -> Source:
        file, _ = split_source(name)
        return Source(name=file.name, sha256=sha256_of_file(file))

    with ThreadPoolExecutor(_READERS) as threads:
        return dict(zip(names, threads.map(of_file, names), strict=True))
