"""Why workers were lost, as a training's monitor is told."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback

_OF_CONNECTIONS = re.compile(r"gloo/transport/|DistBackendError|DistNetworkError|NCCL")
"""What PyTorch says in a worker when another one is gone."""
_OF_MEMORY = "running low on memory"
"""What Ray says of a process that it has killed for the memory it took."""


class Failures(UserCallback):
    """Tells a monitor of workers that were lost, and of errors that they raised.

    Ray Train's controller imports this file, which is to import little.
    """

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor

    def after_exception(
        self, run_context: Any, worker_exceptions: Mapping[int, BaseException]
    ) -> None:
        """See :class:`ray.train.UserCallback`."""
        # One dead worker makes the others fail: it is the one to tell of.
        lost = [r for r, error in worker_exceptions.items() if _is_of_process(error)]
        rank = min(lost or worker_exceptions)
        error = worker_exceptions[rank]
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if lost and _OF_MEMORY in str(error):
            line = f"worker {rank} was lost: its machine ran out of memory"
        elif lost:
            line = f"worker {rank} was lost"
        elif _OF_CONNECTIONS.search(str(error)):
            # Ray Train has not looked at the dead worker yet.
            line = f"worker {rank} lost its connection to another"
        else:
            line = f"worker {rank} failed: {lines[-1]}"
        ray.get(self._monitor.failed.remote(line, "".join(traceback.format_exception(error))))


def _is_of_process(error: BaseException) -> bool:
    """Tell the end of a worker's process from an error that was raised in it."""
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)
