"""A claim on a folder: one job at a time writes to it, on any machine that sees the storage.

Every job has a claim file of its own, so that no two write the same one and any storage will do::

    wants it     no other claim there?   -> write one: asking
    asking       no other claim there?   -> rewrite it: held       else delete it, wait, want again
    held         rewrite it every few seconds                      until the job ends: delete it

Of two that ask at once, each has written before it looks: at least one sees the other, and steps
back. A claim is nobody's once its process is gone, where that can be seen, and elsewhere once it
has not been rewritten for a minute.
"""

from __future__ import annotations

import _thread
import logging
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import ValidationError

from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, one_line
from giblet_ray.settings import Group

_LOGGER = logging.getLogger(__name__)
_PREFIX = ".claim-"
_NAME = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{32}}")
_BEAT_SECONDS = 10.0
DEAD_SECONDS = 60.0
"""A claim of another machine that is not rewritten for so long is nobody's."""
_ASK_SECONDS = 15.0
"""For so long a job asks again while others ask as well."""


class Claim(Group):
    """Who claims a folder."""

    state: Literal["asking", "held"]
    machine: str
    """Where its process numbers mean something: host, boot and process namespace."""
    host: str
    pid: int
    began: float
    """When the process began (s since 1970), since numbers of processes are used again."""
    beat: float
    """When the claim was last rewritten (s since 1970)."""

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its process can be seen from here."""
        return self.machine == _machine()

    def is_live(self) -> bool:
        """Whether its job may still be at work."""
        if not self.is_of_this_machine:
            return time.time() - self.beat < DEAD_SECONDS
        try:
            return abs(psutil.Process(self.pid).create_time() - self.began) < 1
        except psutil.Error:
            return False


def is_claim(name: str) -> bool:
    """Tell a claim, or one that is just being written, from a folder's other files."""
    return name.startswith(_PREFIX)


@contextmanager
def claimed(
    location: str,
    setting: str,
    patience: float = 0.0,
    lost: Callable[[], None] = _thread.interrupt_main,
) -> Iterator[None]:
    """Hold the claim on a folder while the block runs.

    Parameters
    ----------
    location : str
        Path or URI of the folder; made if it is not there.
    setting : str
        What a user would change to work elsewhere, such as ``--name``.
    patience : float
        How long to wait for another job's claim (s): the same work, begun again on another
        machine, may meet its own claim of before.
    lost : callable
        Is called if another job takes the claim, after this one could not rewrite it for long;
        what has been claimed must not be written to any more.

    Raises
    ------
    InputError
        If another job holds it.
    """
    storage = Storage.at(location)
    name = f"{_PREFIX}{uuid.uuid4().hex}"
    folder = Path(storage.root)
    made = [path for path in (folder, *folder.parents) if storage.is_local and not path.exists()]
    _take(storage, name, setting, patience)
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_BEAT_SECONDS):
            # Storage that fails for a while is told of by who writes what matters.
            with suppress(OSError, InputError):
                if storage.size(name) is None:
                    _LOGGER.warning(f"{location}: its claim is gone: another job has taken it")
                    lost()
                    return
                _write(storage, name, "held")

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(OSError):
            storage.delete(name)
        for path in made:  # of a job that came to nothing
            with suppress(OSError):
                path.rmdir()


def _take(storage: Storage, name: str, setting: str, patience: float) -> None:
    refused, asked = time.monotonic() + patience, time.monotonic() + _ASK_SECONDS
    while True:
        other = _other(storage, name)
        if other is None:
            _write(storage, name, "asking")
            other = _other(storage, name)
            if other is None:
                _write(storage, name, "held")
                return
            storage.delete(name)
        if time.monotonic() > (refused if other.state == "held" else max(refused, asked)):
            raise InputError(
                f"{storage.location}: another job works on it, on {other.host} as process "
                f"{other.pid}; wait for it, or give another {setting} (if it has died, it is free "
                f"{DEAD_SECONDS:g} s later)"
            )
        time.sleep(random.uniform(0.1, 0.5))


def _other(storage: Storage, mine: str) -> Claim | None:
    """Return a live claim of another job, one that is held before others; delete dead ones."""
    live = []
    for name in sorted(filter(_NAME.fullmatch, storage.entries() - {mine})):
        claim = _read(storage, name)
        if claim is not None and not claim.is_live() and not claim.is_of_this_machine:
            # Its clock may be slow: it is watched for longer than it would take to rewrite it.
            time.sleep(1.5 * _BEAT_SECONDS)
            before, claim = claim, _read(storage, name)
            if claim is not None and claim != before:
                live.append(claim)
                continue
        if claim is not None and claim.is_live():
            live.append(claim)
        elif claim is not None:
            storage.delete(name)
    return max(live, key=lambda claim: claim.state == "held", default=None)


def _read(storage: Storage, name: str) -> Claim | None:
    try:
        return Claim.model_validate_json(storage.read(name))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InputError(f"{storage.describe(name)}: no claim; delete the file") from error


def _write(storage: Storage, name: str, state: Literal["asking", "held"]) -> None:
    claim = Claim(
        state=state,
        machine=_machine(),
        host=socket.gethostname(),
        pid=os.getpid(),
        began=psutil.Process().create_time(),
        beat=time.time(),
    )
    try:
        with storage.write(name) as stream:
            stream.write(claim.model_dump_json().encode())
    except OSError as error:
        raise InputError(f"{storage.location}: cannot be written: {one_line(error)}") from error


def _machine() -> str:
    """Name what process numbers count in: a boot of a kernel, and a container's own processes."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # not on Linux
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(parts)
