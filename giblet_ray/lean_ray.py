"""Ray on this machine alone, without those of its processes that a job has no use for.

Each takes as long to start as Ray itself: a job waits for them one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import ray
from ray._private import node, utils
from ray.data._internal import stats
from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator


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
    whole, missing = node.Node, utils.get_dashboard_dependency_error
    node.Node = _LeanNode  # type: ignore[misc]  # Ray has no settings for these
    # The agent of a dashboard that there is not does the least that it can.
    utils.get_dashboard_dependency_error = lambda: ImportError("not used")
    try:
        yield
    finally:
        node.Node = whole  # type: ignore[misc]
        utils.get_dashboard_dependency_error = missing


class _Here:
    """Does in this process what an actor's handle would ask of another."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)
        return SimpleNamespace(remote=lambda *told, **options: ray.put(method(*told, **options)))


class _Unread:
    """An actor's handle that every call is lost on."""

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *told, **options: None)


def coordinate_here() -> Any:
    """Return what divides this machine between who computes on it, in this process.

    Ray has an actor for it, which asks for machines, too; here there are no others.
    """
    return _Here(
        coordinator._AutoscalingCoordinatorActor(send_resources_request=lambda *asked: None)
    )


def lean_data() -> None:
    """Let Ray Data share out this machine, which is connected to, without actors of its own.

    Statistics for the dashboard are not kept.
    """
    here = coordinate_here()
    coordinator.get_or_create_autoscaling_coordinator = lambda: here
    stats.get_or_create_stats_actor = _Unread  # type: ignore[assignment]
    manager: Any = stats._StatsManager
    manager.gen_dataset_id_from_stats_actor = staticmethod(lambda: uuid4().hex)
