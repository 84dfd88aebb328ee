"""A typed file of a run's folder, as JSON."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, one_line
from giblet_ray.settings import Group

_Kind = TypeVar("_Kind", bound=Group)


def read_json(storage: Storage, name: str, kind: type[_Kind]) -> _Kind | None:
    """Return what a file holds, or None where there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return kind.model_validate(json.loads(storage.read(name)))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise InputError(
            f"{storage.describe(name)}: damaged: {one_line(error)}; delete it"
        ) from error


def write_json(storage: Storage, name: str, value: Group) -> None:
    """Write a file, or another in its place."""
    with storage.write(name) as stream:
        stream.write(value.model_dump_json(indent=1).encode())
