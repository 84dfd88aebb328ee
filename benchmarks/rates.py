"""Contenders that take turns, and the ratios between them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from machine import CONSOLE, MiB
from rich.table import Table


@dataclass(frozen=True)
class Rates:
    """Rows per second of one contender in each round."""

    per_round: list[float]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.per_round)

    def over(self, other: Rates) -> list[float]:
        """Return the ratio to another contender in each round."""
        return [a / b for a, b in zip(self.per_round, other.per_round, strict=True)]


def compare(contenders: dict[str, Callable[[int], int]], repeats: int) -> dict[str, Rates]:
    """Time contenders in turn, `repeats` times after one round to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(repeats + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            n_rows = run(round_)
            seconds = time.perf_counter() - started
            if round_ > 0:
                rates[name].append(n_rows / seconds)
    return {name: Rates(values) for name, values in rates.items()}


def print_rates(title: str, rates: dict[str, Rates], row_bytes: int) -> None:
    """Print median and spread of each contender, beside the first."""
    first = next(iter(rates.values()))
    table = Table("", "rows/s", "lowest", "highest", "MiB/s", "to the first row", title=title)
    for name, rate in rates.items():
        table.add_row(
            name,
            f"{rate.median:,.0f}",
            f"{min(rate.per_round):,.0f}",
            f"{max(rate.per_round):,.0f}",
            f"{rate.median * row_bytes / MiB:,.0f}",
            spread(rate.over(first)),
        )
    CONSOLE.print(table)


def spread(ratios: list[float]) -> str:
    """Return the median of ratios, and their range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
