"""Memory of a node's processes, watched while something runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import psutil
from machine import CONSOLE, MiB
from rich.table import Table


@dataclass(frozen=True)
class Memory:
    """Bytes on the node while `n_workers` take an epoch."""

    n_workers: int
    store: int
    private_start: int
    private_peak: int

    @property
    def for_data(self) -> int:
        """The object store, and what the workers' private memory grew by."""
        return self.store + self.private_peak - self.private_start


class Peak:
    """Samples numbers in a thread for as long as its block runs."""

    def __init__(self, read: Callable[[], tuple[int, int]]) -> None:
        self.seen: list[tuple[int, int]] = []
        self._read = read
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._stopped.wait(0.02):
            self.seen.append(self._read())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.seen.append(self._read())


def private_bytes(pids: list[int]) -> int:
    """Return the memory that belongs to these processes alone (unique set size)."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in pids)


def shared_bytes() -> int:
    """Return the shared memory of this node, the object store's pages among it, counted once."""
    return int(psutil.virtual_memory().shared)


def print_memory(measured: list[Memory], n_bytes: int) -> None:
    """Print memory by number of workers, beside what copies in every worker would take."""
    table = Table(
        *("workers", "object store", "workers' private memory", "of it since they started"),
        *("for data, in all", "if each held the data"),
        title="peak memory of the node (MiB)",
    )
    for memory in measured:
        numbers = (
            memory.store,
            memory.private_peak,
            memory.private_peak - memory.private_start,
            memory.for_data,
            memory.n_workers * n_bytes,
        )
        table.add_row(str(memory.n_workers), *(f"{number / MiB:,.0f}" for number in numbers))
    CONSOLE.print(table)
