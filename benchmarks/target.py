"""What a benchmark has measured, beside what it must reach: one line each of `make bench`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import CONSOLE
from rich.table import Table


@dataclass(frozen=True)
class Target:
    """A ratio, or a number, and its bound.

    Attributes
    ----------
    row : int
        Row of docs/performance.md that it belongs to.
    what : str
        What is measured, beside what, at which size.
    found : float or None
        What it came to, the median of its rounds; None: not measured on this machine.
    bound : float
        What it must reach.
    at_least : bool
        Whether the bound is the least that is accepted; otherwise it is the most.
    spread : (float, float) or None
        The lowest and the highest of its rounds, if it was measured.
    """

    row: int
    what: str
    found: float | None
    bound: float
    at_least: bool
    spread: tuple[float, float] | None

    @classmethod
    def once(cls, row: int, what: str, found: float | None, bound: float) -> Target:
        """Return what was measured once, or not at all, and must be at most a bound."""
        return cls(row, what, found, bound, False, None if found is None else (found, found))

    @property
    def is_met(self) -> bool:
        """Whether it was measured, and the bound is kept."""
        if self.found is None:
            return False
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    @property
    def is_missed(self) -> bool:
        """Whether it was measured, and the bound is not kept."""
        return self.found is not None and not self.is_met

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table shows of it."""
        bound = f"{'>=' if self.at_least else '<='} {self.bound:g}"
        if self.found is None or self.spread is None:
            return (str(self.row), self.what, "", "", bound, "not measured")
        low, high = self.spread
        verdict = "met" if self.is_met else "missed"
        return (
            str(self.row),
            self.what,
            f"{self.found:.3g}",
            f"{low:.3g} to {high:.3g}",
            bound,
            verdict,
        )


HEADER = ("row", "what", "found", "rounds", "must be", "")


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark be told where :func:`tell` is to write what it measured."""
    parser.add_argument("--targets", type=Path, help="file that the targets are written to")


def tell(targets: Sequence[Target], path: Path | None = None) -> None:
    """Print targets as a table; with a path, also write them there as JSON."""
    table = Table(*HEADER)
    for target in targets:
        table.add_row(*target.cells)
    CONSOLE.print(table)
    if path is not None:
        path.write_text(json.dumps([asdict(target) for target in targets], indent=1))


def read_targets(path: Path) -> list[Target]:
    """Return what :func:`tell` has written."""
    found = json.loads(path.read_text())
    return [Target(**each | {"spread": each["spread"] and tuple(each["spread"])}) for each in found]
