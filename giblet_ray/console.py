"""What a job says to its user: lines as it goes, a table at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache

from giblet_ray.secrets import redact

_LOGGER = logging.getLogger(__name__)
_PROGRESS_SECONDS = 4.0


def show(line: str) -> None:
    """Print a line at once, without the secrets that it may hold."""
    print(redact(line), flush=True)


@cache
def warn_once(line: str) -> None:
    """Warn of something that a job comes upon several times."""
    _LOGGER.warning("%s", line)


def say_stages(say: Callable[[str], None]) -> Callable[[str, float], None]:
    """Return a callback that says how far a stage is, every few seconds.

    It is called with the stage's name and the share of it that is done.
    """
    said = time.monotonic()

    def report(stage: str, done: float) -> None:
        nonlocal said
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            say(f"     {stage} {done:.0%}")

    return report


def duration(seconds: float) -> str:
    """Return a time span as a person says it: 2h05m, 3m20s, 45s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def show_table(title: str, rows: Mapping[str, str]) -> None:
    """Print names and values in two columns; values are never cut, so that they can be copied."""
    width = max(map(len, rows))
    show(f"\n{title}")
    for name, value in rows.items():
        show(f"  {name:<{width}}  {value}")
