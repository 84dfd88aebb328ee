"""The Ray cluster that a job runs on: the one it was submitted to, or this machine."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from giblet_ray.environment import check_environment
from giblet_ray.errors import InputError

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Variable with the time that Ray Train waits for room for its workers before it looks again."""
_ANSWER_SECONDS = 20
_LEAST_STARTING = 8
_MOST_LOSSES = 3
"""How often work goes on by itself after a worker was lost."""
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
"""What Ray's error says of a cluster and of a job that do not go together."""
_T = TypeVar("_T")


def connect(num_cpus: int | None = None, object_store_bytes: int | None = None) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine.

    What a user should know, the job prints; see :func:`giblet_ray.quiet_ray.quiet_ray`.

    Parameters
    ----------
    num_cpus : int, optional
        CPU cores that a cluster on this machine offers (default: those that it has).
    object_store_bytes : int, optional
        Its object store (default: what Ray takes, 30 % of the memory).
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray announces a future change of this default; no accelerator is hidden by what we ask for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A worker group that cannot be placed is an error after a while, not a silent wait.
    os.environ.setdefault(START_TIMEOUT, "180")
    # A worker that reports waits until the controller looks for reports. At Ray's interval no
    # epoch, and no checkpoint within one, could take less than 2 s; at 0.5 s epochs of two workers
    # take 1.21 times torchrun's, at 0.1 s 1.15 (benchmarks/under_ray.py, epochs of 8 s).
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    address = check_environment()
    import ray

    from giblet_ray.quiet_ray import quiet_ray

    quiet_ray()
    if not ray.is_initialized():
        if address is not None:
            # The cluster's dashboard shows trainings, their workers and their metrics.
            os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
            address = _running_here() if address == "auto" else address
            _check_admission(address)
        else:
            # Nobody takes this machine away from us: no process has to watch for that.
            os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
            # Processes that Ray starts at the same time, one per core by default. It warns of four
            # times as many in all, which a training has beside its workers on two cores.
            n_starting = max(os.cpu_count() or 1, _LEAST_STARTING)
            os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(n_starting))
            # Ray Train's controller waits for what takes no time.
            os.environ.setdefault("RAY_WARN_BLOCKING_GET_INSIDE_ASYNC", "0")
        _init(address, num_cpus, object_store_bytes)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does when `ray job stop`, a scheduler or systemd ends the job."""
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(on_ctrl_c):
        on_ctrl_c(signal.SIGINT, frame)
    else:  # Ctrl-C is ignored, as for jobs in the background of a shell
        raise KeyboardInterrupt


def _running_here() -> str:
    """Return the address of the cluster that runs on this machine."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        return str(canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError as error:
        raise InputError(
            "RAY_ADDRESS auto: no Ray cluster runs on this machine; HOST:PORT of one that runs is "
            "accepted, or no RAY_ADDRESS at all for this machine alone"
        ) from error


def _init(address: str | None, num_cpus: int | None, object_store_bytes: int | None) -> None:
    """Start or join Ray; a machine that was too busy to start it in time gets a second chance."""
    import ray
    from ray.exceptions import AuthenticationError

    from giblet_ray.lean_ray import lean_data, lean_ray

    for last in (False, True):
        try:
            with nullcontext() if address else lean_ray():
                ray.init(
                    # Unless told otherwise, Ray would join whatever cluster was started here last.
                    address=address or "local",
                    num_cpus=None if address else num_cpus,
                    object_store_memory=None if address else object_store_bytes,
                    include_dashboard=None if address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            if not address:
                lean_data()
            return
        except AuthenticationError as error:
            raise InputError(
                f"{_first_sentence(error)}: a file with a token, or no variable, is accepted"
            ) from error
        except Exception as error:  # Ray has no class of its own for these
            if versions := _VERSIONS.findall(str(error)):
                (ray_there, python_there), (ray_here, python_here) = versions
                raise InputError(
                    f"RAY_ADDRESS {address}: the cluster runs Ray {ray_there} on Python "
                    f"{python_there}, this job Ray {ray_here} on Python {python_here}; the same "
                    "Ray and the same Python are accepted"
                ) from error
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if last:
                raise InputError(
                    "Ray did not start on this machine within 30 s, twice: too much else runs here"
                ) from error


def _check_admission(address: str) -> None:
    """Make sure that a cluster answers, and takes our token: Ray itself would try for minutes.

    Raises
    ------
    InputError
        If it does not.
    """
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import (  # type: ignore[attr-defined]
        GetClusterIdRequest,
    )
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
    from ray.exceptions import AuthenticationError

    try:
        with init_grpc_channel(address) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(
                GetClusterIdRequest(), timeout=_ANSWER_SECONDS
            )
    except AuthenticationError as error:
        raise InputError(f"RAY_AUTH_MODE is token: {_first_sentence(error)}") from error
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise InputError(
                f"RAY_ADDRESS {address}: the cluster does not take the token that it was given, or "
                "was given none; RAY_AUTH_MODE=token with the cluster's token in "
                "~/.ray/auth_token, or in the file that RAY_AUTH_TOKEN_PATH names, is accepted"
            ) from error
        raise InputError(
            f"RAY_ADDRESS {address}: no Ray cluster answers there; HOST:PORT of one that runs is "
            "accepted, or no RAY_ADDRESS at all for this machine alone"
        ) from error


def _first_sentence(error: BaseException) -> str:
    return str(error).partition(". ")[0]


def cluster_totals() -> dict[str, float]:
    """Return the resources of all nodes together: CPU, GPU, object_store_memory (bytes)..."""
    import ray

    return dict(ray.cluster_resources())


def free_resources() -> dict[str, float]:
    """Return what nothing has reserved of them."""
    import ray

    return dict(ray.available_resources())


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
    stores = [int(node.has.get("object_store_memory", 0)) for node in living_nodes()]
    return min(filter(None, stores))


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its id, its name, and its resources (CPU, GPU, memory, ...)."""

    id: str
    name: str
    has: dict[str, float]


def living_nodes() -> list[Node]:
    """Return the machines of the cluster that is connected to."""
    import ray

    living = [node for node in ray.nodes() if node["Alive"]]
    return [Node(n["NodeID"], n["NodeManagerHostname"], n["Resources"]) for n in living]


def places_for(cpus: float, gpus: float) -> int:
    """Return how many workers of so many CPUs and GPUs the cluster's machines have room for."""
    places = 0
    for node in living_nodes():
        fit = math.floor(node.has.get("CPU", 0) / cpus)
        places += min(fit, math.floor(node.has.get("GPU", 0) / gpus)) if gpus else fit
    return places


def free_gpu_memory(node: Node) -> int | None:
    """Return the free bytes of a machine's smallest GPU, asked by a task that reserves none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def ask() -> int | None:
        import torch

        n = torch.cuda.device_count()
        return min((torch.cuda.mem_get_info(i)[0] for i in range(n)), default=None)

    here: Any = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.get(ray.remote(ask).options(num_cpus=0, scheduling_strategy=here).remote())
