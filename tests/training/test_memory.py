"""The peak of a process's private memory."""

from __future__ import annotations

import gc
import mmap
import threading
import time
from pathlib import Path

import torch

from giblet_ray.training.memory import MemoryPeak, private_bytes

MEGABYTE = 2**20
CPU = torch.device("cpu")


def wait_for_looks() -> None:
    """Let the watching thread look a few times."""
    time.sleep(0.2)


def test_peak_outlives_what_caused_it() -> None:
    watched = MemoryPeak(CPU)
    before = private_bytes()
    block = torch.ones(64 * MEGABYTE)
    wait_for_looks()
    del block
    assert watched.bytes()["memory/host_peak_bytes"] >= before + 250 * MEGABYTE
    assert private_bytes() < before + 100 * MEGABYTE
    assert watched.bytes().keys() == {"memory/host_peak_bytes"}


def test_memory_that_processes_share_is_not_counted(tmp_path: Path) -> None:
    """As the object store's blocks are: a file in memory, mapped."""
    file = Path("/dev/shm") / f"giblet_ray-{tmp_path.name}"
    watched = MemoryPeak(CPU)
    before = watched.bytes()["memory/host_peak_bytes"]
    try:
        with file.open("wb+") as stream:
            stream.truncate(200 * MEGABYTE)
            with mmap.mmap(stream.fileno(), 200 * MEGABYTE) as view:
                for page in range(0, len(view), mmap.PAGESIZE):
                    view[page] = 1
                wait_for_looks()
    finally:
        file.unlink()
    assert watched.bytes()["memory/host_peak_bytes"] < before + 50 * MEGABYTE


def test_watching_ends_with_the_watcher() -> None:
    before = set(threading.enumerate())
    watched = MemoryPeak(CPU)
    (thread,) = set(threading.enumerate()) - before
    assert thread.is_alive()
    del watched
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()
