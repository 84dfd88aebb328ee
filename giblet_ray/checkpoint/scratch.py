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


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a temporary folder; those of processes that live no more are deleted first.

    A killed worker would leave a checkpoint in each. Who lives holds a lock, which the system takes
    from who dies, in other containers of this machine too.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # What is another user's, or in use, is theirs.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _NEW_SECONDS:
                with _locked(left):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; BlockingIOError where another process does."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(file)
