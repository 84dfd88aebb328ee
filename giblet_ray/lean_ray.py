"""Ray on this machine alone, without those of its processes that a job has no use for.

Each takes as long to start as Ray itself: a job waits for them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import node


class _LeanNode(node.Node):
    """The one node of a cluster that is this machine's, and of this job."""

    def start_api_server(self, **options: Any) -> None:
        """Start none: without a dashboard, it would report on the use of Ray, which is off."""
        self._webui_url = ""

    def start_monitor(self) -> None:
        """Start no autoscaler: there are no other machines."""

    def start_log_monitor(self) -> None:
        """Start none: what workers print goes to their log files, and not to the driver."""


@contextmanager
def lean_ray() -> Iterator[None]:
    """Let ray.init start what a job uses, while the block runs."""
    whole = node.Node
    node.Node = _LeanNode  # type: ignore[misc]  # Ray has no settings for these
    try:
        yield
    finally:
        node.Node = whole  # type: ignore[misc]
