"""The machine that a benchmark runs on, and where it prints."""

from __future__ import annotations

import platform
from pathlib import Path

from rich.console import Console

MiB = 2**20
ROOT = Path(__file__).parents[1]
CONSOLE = Console(width=118, markup=False, highlight=False)


def cpu_model() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
