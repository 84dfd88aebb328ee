"""Names that become parts of paths and addresses: one rule for all, checked where they come in."""

from __future__ import annotations

import re

from giblet_ray.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ACCEPTED = "letters, digits, '.', '_' and '-' are accepted, a letter or digit first, 100 at most"
_MOST_BYTES = 200
"""A file's name may have 255, of which some are for an ending."""


def checked_name(name: str, what: str = "") -> str:
    """Return the name of a run, sweep, subject or stimulus if it can be the name of a file.

    Raises
    ------
    InputError
        If it cannot; `what` is the first word of the message.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name!r} is no name: {_ACCEPTED}".lstrip())
    return name


def checked_run(name: str) -> str:
    """Return what a run is looked up by: its name or id, or SWEEP/TRIAL.

    Raises
    ------
    InputError
        If no run can be called so.
    """
    if not all(map(_NAME.fullmatch, name.split("/", 1))):
        raise InputError(f"{name!r} is no name or id of a run, nor SWEEP/TRIAL: {_ACCEPTED}")
    return name


def checked_experiment(name: str) -> str:
    """Return an experiment's name: any text whose parts, between slashes, can be folders.

    Raises
    ------
    InputError
        If they cannot.
    """
    parts = name.removeprefix("/").split("/")
    if not name.isprintable() or any(
        part in ("", ".", "..") or part != part.strip() or len(part.encode()) > _MOST_BYTES
        for part in parts
    ):
        raise InputError(
            f"{name!r} is no name of an experiment: text is accepted in which no part between "
            f"slashes is empty, '.' or '..', or longer than {_MOST_BYTES} bytes, or begins or ends "
            "with a space"
        )
    return name
