"""Files that a user names, and that are there but cannot be read."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.dataset.storage import sha256_of_file
from giblet_ray.errors import InputError
from giblet_ray.features.source import decode_text
from giblet_ray.spaces.confounds import read_confounds
from giblet_ray.spaces.sidecar import read_sidecar


@pytest.mark.parametrize("number", [errno.EACCES, errno.EREMOTEIO])
@pytest.mark.parametrize(
    "read",
    [decode_text, read_sidecar, sha256_of_file, lambda file: read_confounds(file, ("a",), 1)],
    ids=["text", "sidecar", "checksum", "confounds"],
)
def test_a_file_that_cannot_be_read_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], Any], number: int
) -> None:
    """May not be, or is on a disk elsewhere that does not answer."""
    file = tmp_path / "file"
    file.write_text("a\n1\n")

    def refused(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(number, "no such luck", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InputError, match=rf"^{re.escape(str(file))}: [^\n]*no such luck[^\n]*$"):
        read(file)
