"""The files that a job names by patterns, and those that belong to each film."""

from __future__ import annotations

import glob
from collections.abc import Callable

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError
from giblet_ray.features.source import files_like, matching_files
from giblet_ray.precompute.chosen import NO_TEXT

_STIMULUS = "{stimulus}"


def with_matching_files(job: PrecomputeJob) -> PrecomputeJob:
    """Return the job with the files that its patterns of films, texts and scans stand for."""
    named = {name: matching_files(getattr(job, name), f"--{name}") for name in ("film", "bold")}
    if not _by_name(job):
        named["text"] = matching_files(job.text, "--text")
    return job.model_copy(update=named)


def texts_of_films(job: PrecomputeJob) -> Callable[[int, str], str]:
    """Return what gives a film's text, or the word none, by the film's place and name.

    Raises
    ------
    InputError
        If there are not as many texts as films, and they are not found by the films' names; where
        they are, and a film has none or several.
    """
    if _by_name(job):
        for template in job.text:
            if template != NO_TEXT and _STIMULUS not in template:
                raise InputError(
                    f"--text {template}: is one file among those that {_STIMULUS} names; texts are "
                    f"given one per film, or all by {_STIMULUS}"
                )
        return lambda _, stimulus: _text_by_name(job.text, stimulus)
    if job.text and len(job.text) != len(job.film):
        raise InputError(
            f"--text names {len(job.text)} and --film {len(job.film)} files; give one text per "
            f"film, in the same order, {NO_TEXT!r} for a film without, or no --text at all"
        )
    return lambda place, _: job.text[place] if job.text else NO_TEXT


def array_of_film(array: str, file: str, stimulus: str, job: PrecomputeJob) -> str:
    """Return the file of a film's array, whose name may hold ``{stimulus}``."""
    if _STIMULUS not in file and len(job.film) > 1:
        raise InputError(
            f"--array {array}={file}: names one file for {len(job.film)} films; {{stimulus}} in it "
            f"stands for each film's name, as in {array}=features/{{stimulus}}.npy"
        )
    return file.replace(_STIMULUS, stimulus)


def _by_name(job: PrecomputeJob) -> bool:
    return any(_STIMULUS in text for text in job.text)


def _text_by_name(templates: tuple[str, ...], stimulus: str) -> str:
    """Return the first text that is there of a stimulus."""
    for template in templates:
        if template == NO_TEXT:
            return NO_TEXT
        pattern, separator, part = template.partition("::")
        files = files_like(pattern.replace(_STIMULUS, glob.escape(stimulus)))
        if len(files) > 1:
            raise InputError(f"--text {template}: {' and '.join(files)} are both of {stimulus}")
        if files:
            return f"{files[0]}{separator}{part}"
    raise InputError(
        f"--text {' '.join(templates)}: there is no text of {stimulus}; {NO_TEXT} after them "
        "accepts films without"
    )
