"""Changing a checkpoint as its author could: the record's checksums follow."""

from __future__ import annotations

import json
from pathlib import Path

from giblet_ray.checkpoint.damage import file_checksum
from giblet_ray.checkpoint.record import RECORD


def sign(folder: Path, *names: str) -> None:
    """Put the present checksums of a checkpoint's files into its record."""
    record = json.loads((folder / RECORD).read_text())
    record["checksums"].update({name: file_checksum(folder / name) for name in names})
    (folder / RECORD).write_text(json.dumps(record))
