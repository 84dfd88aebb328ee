"""Files below a root: the bytes that were written, whatever they are called."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from giblet_ray.dataset.storage import Storage


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_bytes_of_a_packed_file_are_not_touched(scheme: str, tmp_path: Path) -> None:
    storage = Storage.at(f"{scheme}{tmp_path}")
    content = gzip.compress(b"volumes" * 100)
    with storage.write("run/scan.nii.gz") as stream:
        stream.write(content)
    assert storage.read("run/scan.nii.gz") == content
    assert storage.size("run/scan.nii.gz") == len(content)
    assert storage.sha256("run/scan.nii.gz") == hashlib.sha256(content).hexdigest()
    assert storage.names() == ["run/scan.nii.gz"]
