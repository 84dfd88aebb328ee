"""What a benchmark has measured, beside what it must reach: one line each of `make bench`."""

from __future__ import annotations

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
    found : float
        What it came to, the median of its rounds.
    bound : float
        What it must reach.
    at_least : bool
        Whether the bound is the least that is accepted; otherwise it is the most.
    spread : (float, float)
        The lowest and the highest of its rounds.
    """

    row: int
    what: str
    found: float
    bound: float
    at_least: bool
    spread: tuple[float, float]

    @property
    def is_met(self) -> bool:
        """Whether the bound is kept."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table shows of it."""
        bound = f"{'>=' if self.at_least else '<='} {self.bound:g}"
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
    return [Target(**{**each, "spread": tuple(each["spread"])}) for each in found]
