"""What ``--help`` prints: what a job is for, an example command, and how each setting is typed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from giblet_ray.config import Job
from giblet_ray.settings import Spelling, group_of

_TYPES = {int: "INT", float: "NUMBER", str: "NAME", bool: "[true|false]"}
_HOW_TO_GIVE = """
Any setting can also stand in a YAML file (--config) or in the environment (model.embed_dim as
GIBLET_RAY_MODEL__EMBED_DIM); the command line wins over the file, and the file over the
environment.
"""


def help_text(job_class: type[Job], about: str, width: int) -> str:
    """Return the help of a job.

    Parameters
    ----------
    job_class : type[Job]
        Whose settings are listed.
    about : str
        What the job does, with an example command: the docstring of its file.
    width : int
        Characters per line.
    """
    lines = [about.strip(), "", *_wrap(_HOW_TO_GIVE, width)]
    for title, settings in _groups(job_class):
        lines += ["", *_wrap(title, width)]
        for name, field in settings:
            lines += [
                f"  --{name} {_spelling(name, field)}{_default(field)}",
                *_wrap(field.description or "", width, " " * 6),
            ]
    return "\n".join(lines)


def _groups(
    model: type[BaseModel], prefix: str = ""
) -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """Every group's title and settings, the job's own first and what all jobs take at its end."""
    own, groups = [], []
    for name, field in model.model_fields.items():
        if (group := group_of(field)) is not None:
            groups.append((f"{prefix}{name}", group))
        else:
            own.append((f"{prefix}{name}", field))
    for settings in (own, groups):
        settings.sort(key=lambda setting: setting[0] in Job.model_fields)
    if own:
        title = (model.__doc__ or "").strip().partition("\n\n")[0]
        yield (f"{prefix[:-1]}: {title}" if prefix else "Settings:"), own
    for name, group in groups:
        yield from _groups(group, f"{name}.")


def _spelling(name: str, field: FieldInfo) -> str:
    """Return what to type after a name: ``INT``, ``NAME,NAME,...``, ``blocks|stimuli``."""
    for mark in field.metadata:
        if isinstance(mark, Spelling):
            return mark.text
    kinds = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    kind = _bare(kinds[0] if NoneType in get_args(field.annotation) else field.annotation)
    return name.rpartition(".")[2].upper() if kind is str else _of_type(kind)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _of_type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is dict:
        return "NAME=VALUE NAME=VALUE ..."
    if get_origin(kind) is tuple:
        first, *more = map(_bare, get_args(kind))
        if more == [...]:
            part = _of_type(first)
            return f"{part},..." if "|" in part else f"{part},{part},..."
        return ",".join(map(_of_type, (first, *more)))
    return _TYPES.get(kind, "VALUE")


def _default(field: FieldInfo) -> str:
    """Return a setting's default as one would type it, unless its description says it."""
    if field.is_required():
        return "  (required)"
    if "default:" in (field.description or "").lower():
        return ""
    if field.default_factory is not None:
        return f"  (default: such as {field.get_default(call_default_factory=True)})"
    value = field.default
    if value is None or value in ((), {}, ""):
        return "  (default: none)"
    return f"  (default: {_typed(value)})"


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_typed, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={_typed(each)}" for name, each in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrap(text: str, width: int, indent: str = "") -> list[str]:
    # Neither dotted names nor paths are cut.
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
