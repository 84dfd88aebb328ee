"""What all workers of a part load: made once, by one of them, and kept until the end."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import ValidationError

from giblet_ray.dataset.storage import Storage
from giblet_ray.parts.part import Prepared
from giblet_ray.precompute.units import WORK
from giblet_ray.settings import Group


class _PreparedRecord(Group):
    """How it was made; written after it."""

    recipe: dict[str, Any]
    sha256: str
    made_with: dict[str, Any]
    facts: dict[str, Any]


def keep_prepared(storage: Storage, part: str, recipe: dict[str, Any], prepared: Prepared) -> None:
    """Put what was prepared where all workers find it, below the data set's folder."""
    record = _PreparedRecord(
        recipe=recipe,
        sha256=hashlib.sha256(prepared.content).hexdigest(),
        made_with=prepared.made_with,
        facts=prepared.facts,
    )
    with storage.write(_content_path(part)) as stream:
        stream.write(prepared.content)
    with storage.write(_record_path(part)) as stream:
        stream.write(record.model_dump_json().encode())


def find_prepared(storage: Storage, part: str, recipe: dict[str, Any]) -> Prepared | None:
    """Return what was prepared for a part, if it is there, whole, and of this recipe."""
    try:
        content, text = storage.read(_content_path(part)), storage.read(_record_path(part))
        record = _PreparedRecord.model_validate_json(text)
    except (FileNotFoundError, ValidationError):  # the latter: another release's
        return None
    same = record.recipe == json.loads(json.dumps(recipe))
    if not same or hashlib.sha256(content).hexdigest() != record.sha256:
        return None
    return Prepared(content, record.made_with, record.facts)


def _content_path(part: str) -> str:
    return f"{WORK}/{part}.prepared"


def _record_path(part: str) -> str:
    return f"{WORK}/{part}.prepared.json"
