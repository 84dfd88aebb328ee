"""What is asked of a number, what it was found to be, and whether that holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from machine import CONSOLE, cpu_model
from rich.table import Table
from simulated import Size

from giblet_ray.progress import Progress


@dataclass(frozen=True)
class Claim:
    """A row of the table.

    Attributes
    ----------
    name, asked, found : str
        In words and numbers; nothing is asked of what is only measured.
    missed_by : float or None
        By how much it is missed, 0 or less where it is met; None where it waits.
    """

    name: str
    asked: str
    found: str
    missed_by: float | None = None

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.missed_by is None:
            return "waits" if self.asked else ""
        return "met" if self.missed_by <= 0 else f"missed by {self.missed_by:.2g}"


@dataclass(frozen=True)
class Options:
    """What rows are told.

    Attributes
    ----------
    seeds : sequence of int
        Each is a data set, or as many as the row asks.
    share : float
        Part of TRs, units and data sets.
    weightings : int
        Of the parts, that banded ridge tries.
    demo : str or None
        Folder of the demo.
    say : callable
        Is told what is being done.
    """

    seeds: Sequence[int] = (0, 1, 2)
    share: float = 1.0
    weightings: int = 8
    demo: str | None = None
    say: Callable[[str], None] = field(default=lambda doing: None)

    @property
    def size(self) -> Size:
        """The size of a data set."""
        return Size().cut(self.share)

    def of(self, n: int, least: int = 8) -> int:
        """Return how many data sets, or trials, are made of those that are asked."""
        return max(least, round(n * self.share))


Row = Callable[[Options], Iterator[Claim]]


def measure(rows: Mapping[str, Row], options: Options, caption: str = "") -> None:
    """Try each row's claims, say what is being done, and print the table."""
    table = Table("row", "asked", "found", "", "CPU s", title=cpu_model(), caption=caption)
    with Progress(CONSOLE.print) as progress:
        told = replace(options, say=lambda doing: setattr(progress, "doing", doing))
        for row in rows.values():
            begun = time.process_time()
            for claim in row(told):
                seconds = f"{time.process_time() - begun:.0f}"
                table.add_row(claim.name, claim.asked, claim.found, claim.verdict, seconds)
                begun = time.process_time()
    CONSOLE.print(table)


def spread(values: Sequence[float], digits: int = 3, sign: str = "") -> str:
    """Return mean, least and most: ``0.512 (0.505 to 0.519)``."""
    mean, low, high = (f"{f(values):{sign}.{digits}f}" for f in (np.mean, np.min, np.max))
    return f"{mean} ({low} to {high})"
