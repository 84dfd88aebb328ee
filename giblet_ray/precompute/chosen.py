"""Which parts a job makes: those that are built in, arrays, and those of a user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError, nearest
from giblet_ray.parts.array import Array, ArrayConfig
from giblet_ray.parts.built_in import BUILT_IN, checked_part_name, find_part
from giblet_ray.parts.part import FILM, PICTURES, SOUND, TEXT, FilmFiles, Part
from giblet_ray.parts.pretrained import PRESETS, Pretrained, layers_of
from giblet_ray.plugins import package_of

NO_TEXT = "none"
"""Stands in the place of the text of a film that has none."""

_LACKS = {PICTURES: "it has no pictures", SOUND: "it has no audio", TEXT: "no text is given of it"}


def chosen_parts(job: PrecomputeJob) -> dict[str, Part]:
    """Return the parts that a job makes, by name.

    A part that is built in is made if its settings ask for it and there are files for it.

    Raises
    ------
    InputError
        For a part that cannot be found, a name that is taken, and settings of no part.
    """
    roles = {FILM, *([TEXT] if any(text != NO_TEXT for text in job.text) else [])}
    parts: dict[str, Part] = {}
    for name, declared in BUILT_IN.items():
        if declared.group and roles >= set(declared.made_from):
            part = declared(name, getattr(job, declared.group))
            if part.is_wanted:
                parts[name] = part
    own = _own_parts(job)
    given = _settings_by_part(job.part_settings, [*own, *job.pretrained])
    own_parts = [part(name, _settings(part, name, given[name])) for name, part in own.items()]
    for part in (*_arrays(job), *_pretrained(job, given), *own_parts):
        where = f"--part {part.kind}"
        if isinstance(part, Array | Pretrained):
            where = f"--{part.kind} {part.network}"
        if part.name in parts:
            raise InputError(f"{where}: the name {part.name} is taken; give the part another")
        if missing := set(part.made_from) - roles - job.array.keys():
            needed = ", ".join(f"--{role}" for role in sorted(missing))
            raise InputError(f"{where}: is made from {needed}, which is not given")
        parts[part.name] = part
    return parts


def films_of(part: Part, films: Sequence[FilmFiles]) -> tuple[FilmFiles, ...]:
    """Return the films that have what a part is made from."""
    return tuple(film for film in films if not part.lacks(film))


def parts_of_films(
    parts: Mapping[str, Part], films: Sequence[FilmFiles]
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Return the parts that some film has, and a note of each film that lacks some.

    Raises
    ------
    InputError
        No film has what a part is made from that a setting leaves out; those without such a setting
        are left out, as frames of stories that are heard. A film has none of the parts.
    """
    made = {name: part for name, part in parts.items() if films_of(part, films)}
    notes = []
    for film in films:
        lacking: dict[str, list[str]] = {}
        for name, part in parts.items():
            if missing := part.lacks(film):
                lacking.setdefault(
                    ", ".join(_LACKS.get(each, each) for each in missing), []
                ).append(name)
                if name not in made and "make" in part.Config.model_fields:
                    raise InputError(
                        f"{film.path}: {_LACKS[missing[0]]}, which {name} is made from; "
                        f"--{part.group}.make false leaves that out"
                    )
        if all(part.lacks(film) for part in made.values()):
            raise InputError(f"{film.path}: there is nothing to be made of it; leave it out")
        notes += [f"{film.name} is without {', '.join(of)}: {why}" for why, of in lacking.items()]
    return made, tuple(notes)


def _arrays(job: PrecomputeJob) -> list[Array]:
    for name in job.resampling:
        if name not in job.array:
            raise InputError(
                f"--resampling {name}: there is no such array{nearest(name, list(job.array))}; "
                f"--array names {', '.join(job.array) or 'none'}"
            )
    arrays = []
    for name, file in job.array.items():
        checked_part_name(name, "--array")
        if not file:
            raise InputError(f"--array {name}: NAME=FILE is accepted, such as clip=clip.npy")
        settings = ArrayConfig(resampling=job.resampling.get(name, "mean"))
        arrays.append(Array(name, settings))
    return arrays


def _pretrained(job: PrecomputeJob, given: Mapping[str, dict[str, Any]]) -> list[Part]:
    """Return the layers of pretrained networks."""
    parts: list[Part] = []
    for name, model in job.pretrained.items():
        checked_part_name(name, "--pretrained")
        known = {"model": model} if model else PRESETS.get(name)
        if known is None and not given[name].get("model"):
            raise InputError(
                f"--pretrained {name}: NAME=MODEL is accepted, or one of {', '.join(PRESETS)} "
                f"alone{nearest(name, list(PRESETS))}"
            )
        settings = _settings(Pretrained, name, {**(known or {}), **given[name]})
        try:
            parts += layers_of(name, settings)
        except InputError as error:
            raise InputError(f"--pretrained {name}: {error}") from error
    return parts


def _own_parts(job: PrecomputeJob) -> dict[str, type[Part]]:
    """Import the parts that are named by path: typing a path is allowing it."""
    classes: dict[str, type[Part]] = {}
    for path in job.part:
        part = find_part(path, {package_of(path)}, "--part")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part.__name__).lower()
        checked_part_name(name, f"--part {path}:")
        if name in classes:
            raise InputError(f"--part {path}: there are two parts of the name {name}")
        classes[name] = part
    return classes


def _settings_by_part(given: dict[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Sort ``motion.bands=8`` by part; in YAML, a part's settings may be nested."""
    known = list(names)
    by_part: dict[str, dict[str, Any]] = {name: {} for name in known}
    for key, value in given.items():
        name, _, setting = key.partition(".")
        nested = value if not setting and isinstance(value, dict) else {setting: value}
        if name not in by_part or "" in nested:
            raise InputError(
                f"--part_settings {key}: PART.SETTING=VALUE is accepted{nearest(name, known)}; "
                f"--part and --pretrained name {', '.join(known) or 'none'}"
            )
        by_part[name] |= nested
    return by_part


def _settings(part: type[Part], name: str, given: dict[str, Any]) -> Any:
    values = {key: yaml.safe_load(v) if isinstance(v, str) else v for key, v in given.items()}
    try:
        return part.Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, (name, *first["loc"])))
        known = [f"{name}.{field}" for field in part.Config.model_fields]
        reason = f"no such setting{nearest(setting, known)}; {part.kind} has {', '.join(known)}"
        if first["type"] != "extra_forbidden":
            reason = f"is {first['input']!r}: {first['msg'].removeprefix('Input ')}"
        raise InputError(f"--part_settings {setting}: {reason}") from error
