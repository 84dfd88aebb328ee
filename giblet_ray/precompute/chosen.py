"""Which parts a job makes: those that are built in, arrays, and those of a user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml
from pydantic import ValidationError

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError, nearest
from giblet_ray.parts.array import Array, ArrayConfig
from giblet_ray.parts.built_in import BUILT_IN, checked_part_name, find_part
from giblet_ray.parts.part import FILM, TEXT, Part
from giblet_ray.plugins import package_of
from giblet_ray.settings import Group


def chosen_parts(job: PrecomputeJob) -> dict[str, Part]:
    """Return the parts that a job makes, by name.

    A part that is built in is made if its settings ask for it and there are files for it.

    Raises
    ------
    InputError
        For a part that cannot be found, a name that is taken, and settings of no part.
    """
    roles = {FILM, *([TEXT] if job.text else [])}
    parts: dict[str, Part] = {}
    for name, declared in BUILT_IN.items():
        if declared.group and roles >= set(declared.made_from):
            part = declared(name, getattr(job, declared.group))
            if part.is_wanted:
                parts[name] = part
    for part in (*_arrays(job), *_own_parts(job)):
        where = f"--array {part.name}" if isinstance(part, Array) else f"--part {part.kind}"
        if part.name in parts:
            raise InputError(f"{where}: the name {part.name} is taken; give the part another")
        if missing := set(part.made_from) - roles - job.array.keys():
            needed = ", ".join(f"--{role}" for role in sorted(missing))
            raise InputError(f"{where}: is made from {needed}, which is not given")
        parts[part.name] = part
    return parts


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


def _own_parts(job: PrecomputeJob) -> list[Part]:
    """Import the parts that are named by path: typing a path is allowing it."""
    classes = {}
    for path in job.part:
        part = find_part(path, {package_of(path)}, "--part")
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part.__name__).lower()
        checked_part_name(name, f"--part {path}:")
        if name in classes:
            raise InputError(f"--part {path}: there are two parts of the name {name}")
        classes[name] = part
    given = _settings_by_part(job.part_settings, classes)
    return [part(name, _settings(part, name, given[name])) for name, part in classes.items()]


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
                f"--part names {', '.join(known) or 'none'}"
            )
        by_part[name] |= nested
    return by_part


def _settings(part: type[Part], name: str, given: dict[str, Any]) -> Group:
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
