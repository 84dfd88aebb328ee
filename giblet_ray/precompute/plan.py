"""Everything about a data set that can be known before any of it is made.

Whatever is wrong with the files and settings, and can be told without decoding films and scans, is
told here, before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.schema import Source
from giblet_ray.dataset.storage import absolute, sha256_of_file
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.codes import frames_per_tr, resolve_codebooks
from giblet_ray.features.embedder import TEXT_DIM, load_embedder
from giblet_ray.features.media import probe_film, tr_count
from giblet_ray.features.source import split_source
from giblet_ray.features.text import read_utterances
from giblet_ray.names import checked_name
from giblet_ray.precompute.makers import MEL_BANDS, MEL_FRAMES_PER_TR, scan_options
from giblet_ray.precompute.scan_name import scan_name
from giblet_ray.precompute.sound import codec_recipe
from giblet_ray.precompute.units import Part, Unit, new_unit
from giblet_ray.spaces.confounds import find_confounds, read_confounds
from giblet_ray.spaces.scan import scan_shape

_READERS = 8
"""Files that are read at a time for their checksums."""


@dataclass(frozen=True)
class FilmPlan:
    """A film, its length, and its text if there is any."""

    name: str
    path: str
    seconds: float
    """Length of the film."""
    n_trs: int
    text: str | None


@dataclass(frozen=True)
class ScanPlan:
    """A scan, and whose it is."""

    subject: str
    film: FilmPlan
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
    units : tuple of Unit
        One per shard.
    sources : dict of str to Source
        Name and checksum of every file that goes in, by its path.
    codec : dict
        What decides the codec; see :func:`codec_recipe`.
    """

    films: tuple[FilmPlan, ...]
    scans: tuple[ScanPlan, ...]
    units: tuple[Unit, ...]
    sources: dict[str, Source]
    codec: dict[str, Any]


def make_plan(job: PrecomputeJob) -> Plan:
    """Check what was given, and say what will be made of it.

    Raises
    ------
    InputError
        For every fault that needs no decoding: see the module's functions.
    """
    try:
        codebooks = resolve_codebooks(job.codes.bandwidth, job.codes.codebooks)
    except InputError as error:
        raise InputError(f"--codes: {error}") from error
    if frames_per_tr(job.tr_seconds) < 1:
        raise InputError(f"--tr_seconds is {job.tr_seconds:g}; a code frame lasts 1/75 s")
    if job.embedding.model != "hashing" and find_spec("sentence_transformers") is None:
        load_embedder(job.embedding.model)  # Says what to install.
    films = _plan_films(job)
    scans = _plan_scans(job, films)
    mask = None if job.mask is None else absolute(job.mask)
    files = [film.path for film in films] + [scan.path for scan in scans]
    files += [film.text for film in films if film.text is not None]
    files += [scan.confounds for scan in scans if scan.confounds is not None]
    files += [] if mask is None else [mask]
    sources = _checksums(files)
    sounds = [(sources[film.path].sha256, film.n_trs * job.tr_seconds) for film in films]
    codec = codec_recipe(job.codes.weights, sounds)

    units = []
    for film in films:
        for part, settings in _film_settings(job, film, codebooks, codec).items():
            unit = {
                "part": part,
                "stimulus": film.name,
                "n_trs": film.n_trs,
                "files": {"text": film.text} if part == "text" else {"film": film.path},
                "settings": settings,
                "nbytes": film.n_trs * _tr_bytes(job, part, codebooks),
            }
            units.append(_unit(job, sources, unit))
    for scan in scans:
        read = {"scan": scan.path, "mask": mask, "confounds": scan.confounds}
        unit = {
            "part": "bold",
            "stimulus": scan.film.name,
            "subject": scan.subject,
            "repeat": scan.repeat,
            "n_trs": scan.film.n_trs,
            "files": {role: file for role, file in read.items() if file is not None},
            "settings": _scan_settings(job),
            "nbytes": scan.film.n_trs * scan.n_voxels * np.dtype(job.scan.dtype).itemsize,
        }
        units.append(_unit(job, sources, unit))
    return Plan(films, scans, tuple(units), sources, codec)


def _unit(job: PrecomputeJob, sources: dict[str, Source], fields: dict[str, Any]) -> Unit:
    return new_unit(sources, tr_seconds=job.tr_seconds, row_group_trs=job.row_group_trs, **fields)


def _film_settings(
    job: PrecomputeJob, film: FilmPlan, codebooks: int, codec: dict[str, Any]
) -> dict[Part, dict[str, Any]]:
    """Return the settings of each part that is made of a film and its text."""
    settings: dict[Part, dict[str, Any]] = {
        "frames": job.frames.model_dump(),
        "codes": {
            "codebooks": codebooks,
            "chunk_seconds": job.codes.chunk_seconds,
            "warmup_seconds": job.codes.warmup_seconds,
            "codec": codec,
        },
    }
    if job.mel.make:
        settings["mel"] = {}
    if film.text is not None:
        is_hash = job.embedding.model == "hashing"
        settings["text"] = {
            "model": job.embedding.model,
            "embedder_version": version("scikit-learn" if is_hash else "sentence-transformers"),
            "film_seconds": film.seconds,
        }
    return settings


def _tr_bytes(job: PrecomputeJob, part: Part, codebooks: int) -> int:
    return {
        "frames": 3 * job.frames.height * job.frames.width,
        "codes": 2 * codebooks * frames_per_tr(job.tr_seconds),
        "mel": 2 * MEL_BANDS * MEL_FRAMES_PER_TR,
        "text": 4 * TEXT_DIM,
    }[part]


def _scan_settings(job: PrecomputeJob) -> dict[str, Any]:
    return job.scan.model_dump(mode="json", exclude={"pattern", "confounds_path"})


def _plan_films(job: PrecomputeJob) -> tuple[FilmPlan, ...]:
    """Measure the films and read their texts, which are short."""
    if not job.film:
        raise InputError("--film is missing: at least one film is needed")
    if job.text and len(job.text) != len(job.film):
        raise InputError(
            f"--text names {len(job.text)} and --film {len(job.film)} files; give one text per "
            "film, in the same order, or none"
        )
    films: dict[str, FilmPlan] = {}
    for index, path in enumerate(job.film):
        film = probe_film(path, require_audio=True)
        name = checked_name(Path(path).stem, f"{path}: stimulus")
        if name in films:
            raise InputError(
                f"{path} and {films[name].path} are both named {name}; a film's file name is its "
                "stimulus's: rename one"
            )
        text = None
        if job.text:
            read_utterances(job.text[index], film.duration_seconds)
            text = absolute(job.text[index])
        n_trs = tr_count(film, job.tr_seconds)
        films[name] = FilmPlan(name, absolute(path), film.duration_seconds, n_trs, text)
    return tuple(films.values())


def _plan_scans(job: PrecomputeJob, films: Sequence[FilmPlan]) -> tuple[ScanPlan, ...]:
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
    path: str, names: dict[str, str], films: dict[str, FilmPlan], pattern: str
) -> FilmPlan:
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


def _plan_scan(job: PrecomputeJob, path: str, subject: str, film: FilmPlan) -> ScanPlan:
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
