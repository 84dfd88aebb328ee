"""Where a checkpoint is written before it is stored: nothing stays of a process that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "giblet_ray-checkpoint-"
_NEW_SECONDS = 60
"""A folder may be so old without having been locked."""
_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a temporary folder; those of processes that live no more are deleted first.

    A killed worker would leave a checkpoint in each. Who lives holds a lock, which the system takes
    from who dies, in other containers of this machine too.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another user's, or in use, or where there are no locks: it stays.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _NEW_SECONDS:
                with _opened(left) as file:
                    fcntl.flock(file, _LOCK)
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _opened(Path(name)) as file:
        with suppress(OSError):
            fcntl.flock(file, _LOCK)
        yield Path(name)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    file = os.open(folder, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)
