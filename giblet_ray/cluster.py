"""The Ray cluster that a job runs on: the one it was submitted to, or this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

from giblet_ray.errors import InputError

_MOST_LOSSES = 3
"""How often work goes on by itself after a worker was lost."""
_T = TypeVar("_T")


def connect(num_cpus: int | None = None) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine.

    Ray's own reports stay in its log files and on its dashboard; what a user should know, the
    job prints.

    Parameters
    ----------
    num_cpus : int, optional
        CPU cores that a cluster on this machine offers (default: those that it has).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray announces a future change of this default; no accelerator is hidden by what we ask for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A worker group that cannot be placed is an error after a while, not a silent wait.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "180")
    # A worker that reports waits until the controller looks for reports. At Ray's interval no
    # epoch, and no checkpoint within one, could take less than 2 s.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    import ray
    import ray.data

    if not ray.is_initialized():
        joins = bool(os.environ.get("RAY_ADDRESS"))
        if not joins:
            # Nobody takes this machine away from us: no process has to watch for that.
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        _init(None if joins else num_cpus, None if joins else False)
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _init(num_cpus: int | None, include_dashboard: bool | None) -> None:
    """Start or join Ray; a machine that was too busy to start it in time gets a second chance."""
    import ray

    for last in (False, True):
        try:
            ray.init(
                num_cpus=num_cpus,
                include_dashboard=include_dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # Ray has no class of its own for this
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if last:
                raise InputError(
                    "Ray did not start on this machine within 30 s, twice: too much else runs here"
                ) from error


def cluster_totals() -> dict[str, float]:
    """Return the resources of all nodes together: CPU, GPU, object_store_memory (bytes)..."""
    import ray

    return dict(ray.cluster_resources())


def never_restart() -> dict[str, Any]:
    """Return options of an actor that a Ray Data job holds.

    Ray writes a warning to the terminal about each actor that it may restart; jobs go on by
    themselves with what a lost actor left undone.
    """
    return {"max_restarts": 0, "max_task_retries": 0}


def outlive_losses(work: Callable[[], _T], say: Callable[[], None]) -> _T:
    """Do some work, again if an actor was lost, which `say` tells of; but not forever."""
    from ray.exceptions import RayActorError

    for _ in range(_MOST_LOSSES):
        try:
            return work()
        except RayActorError:
            say()
    return work()


def smallest_object_store() -> int:
    """Return the bytes of the smallest object store of any node that can run workers."""
    import ray

    stores = [
        int(node["Resources"]["object_store_memory"])
        for node in ray.nodes()
        if node["Alive"] and "object_store_memory" in node["Resources"]
    ]
    return min(stores)
