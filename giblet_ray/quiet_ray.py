"""Ray without reports on its own processes, which no setting of a driver turns off."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

from ray._private import worker
from ray.data import DataContext

_OWN_AFFAIRS = re.compile(
    r"worker processes have been started on node"  # it counts idle ones, and those of actors
    r"|A worker died or was killed while executing a task"
    r"|^The node with node id"  # which is gone
    r"|^The (agent|dashboard|log monitor) on node"
)
"""What jobs tell themselves in fewer words, and what concerns them not at all.

Memory that ran out, what no machine has room for, and an autoscaler that failed are others'."""
_shown = worker.print_to_stdstream


def quiet_ray() -> None:
    """Keep off the terminal what a user cannot act on; the rest of Ray's reports stays.

    All of it is in Ray's log files and on its dashboard.
    """
    worker.print_to_stdstream = _show_what_helps
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "The maximum number of concurrent tasks", UserWarning)
    DataContext.get_current().enable_progress_bars = False


def _show_what_helps(data: dict[str, Any], *how: Any, **options: Any) -> None:
    """Stand in for what prints the errors that a cluster tells its drivers."""
    lines = [line for line in data["lines"] if not _OWN_AFFAIRS.search(line)]
    if lines:
        _shown({**data, "lines": lines}, *how, **options)
