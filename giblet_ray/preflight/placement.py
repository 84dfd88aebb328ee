"""Whether a cluster has room for workers: on its machines, and on those that it may start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from giblet_ray.cluster import free_gpu_memory, free_resources, living_nodes
from giblet_ray.errors import InputError
from giblet_ray.preflight.need import gigabytes

_AUTOSCALER = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves, on the head, what the autoscaler may start."""
_GPU_GB = {
    "T4": 15, "P4": 7, "P100": 16, "V100": 16, "A10G": 22, "L4": 22, "L40S": 44, "A100": 40,
    "A100-40G": 40, "A100-80G": 80, "H100": 80, "H200": 141, "B200": 180,
}  # fmt: skip
"""An assumption, where no GPU was asked: its memory by Ray's name for it, the smallest there is."""
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Machine:
    """A node, or a type of node."""

    name: str
    """What the user calls it."""
    cpus: float
    gpus: float
    """What it offers in all."""
    memory: int | None
    """Bytes that Ray found free for processes and object store; None where unknown."""
    gpu_memory: int | None
    """Bytes of each GPU; None without GPU, or where unknown."""
    gpu_seen: bool = False
    """They are those that were free; else they are assumed, by the kind of GPU."""
    count: int = 1
    """Machines like this one."""
    reservable: int = 0
    """Bytes of the memory that Ray lets a process reserve."""

    def room(self, cpus: float, gpus: float) -> int:
        """Return how many workers one such machine has room for, by its CPUs and GPUs."""
        fit = math.floor(self.cpus / cpus + 1e-9)
        return min(fit, math.floor(self.gpus / gpus + 1e-9)) if gpus else fit


@dataclass(frozen=True)
class Cluster:
    """The machines there are, those that may be started, and what is free now."""

    machines: tuple[Machine, ...]
    growth: tuple[Machine, ...]
    free_cpus: float
    free_gpus: float

    def room(self, cpus: float, gpus: float, grown: bool = False) -> int:
        """Return how many workers there is room for in all, when nothing else runs."""
        machines = (*self.machines, *(self.growth if grown else ()))
        return sum(machine.count * machine.room(cpus, gpus) for machine in machines)

    @property
    def gpus_were_seen(self) -> bool:
        """Whether the memory of all its GPUs is known, and none assumed."""
        return all(each.gpu_seen for each in (*self.machines, *self.growth) if each.gpus)

    def hosts(self, cpus: float, gpus: float) -> list[Machine]:
        """Return the machines, present and to come, that have room for a worker at all."""
        return [each for each in (*self.machines, *self.growth) if each.room(cpus, gpus) > 0]


def look_at_cluster(look_at_gpus: bool, free: Mapping[str, float] | None = None) -> Cluster:
    """Return what the cluster that is connected to has.

    Parameters
    ----------
    look_at_gpus : bool
        Ask the machines that have GPUs for their memory; a second. No GPU is reserved.
    free : mapping of str to float, optional
        What nothing had reserved, before this job did (default: what nothing has now).
    """
    machines = []
    for node in living_nodes():
        seen = free_gpu_memory(node) if look_at_gpus and node.has.get("GPU") else None
        machines.append(_machine(node.name, node.has, seen))
    free = free_resources() if free is None else free
    return Cluster(tuple(machines), _growth(machines), free.get("CPU", 0), free.get("GPU", 0))


def placement(cluster: Cluster, fewest: int, most: int, cpus: float, gpus: float) -> str:
    """Say whether and when the cluster can place workers.

    Parameters
    ----------
    cluster : Cluster
        Where.
    fewest, most : int
        Workers that training starts with at least, and has at most.
    cpus, gpus : float
        What each reserves.
    """
    each = f"{cpus:g} CPU" + (f" + {gpus:g} GPU" if gpus else "")
    workers = _several(most, "worker") if fewest == most else f"{fewest} to {most} workers"
    room = cluster.room(cpus, gpus)
    said = f"{workers} of {each}; room for {room} on {_several(len(cluster.machines), 'machine')}"
    if cluster.growth:
        said += f", for {cluster.room(cpus, gpus, grown=True)} when it has grown"
    if room < fewest:
        return f"{said}: waits until machines with room join"
    busy = fewest * cpus > cluster.free_cpus or fewest * gpus > cluster.free_gpus
    if busy:
        gpus_free = f" and {cluster.free_gpus:g} GPUs" if gpus else ""
        return f"{said}: waits until more than {cluster.free_cpus:g} CPUs{gpus_free} are free"
    return f"{said}: starts at once"


def _several(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def check_host(
    cluster: Cluster,
    workers: int,
    cpus: float,
    gpus: float,
    needed: int,
    shared: int,
    trainings: int = 1,
) -> str:
    """Say how workers fit the memory of the machines that will run them.

    Ray fills one machine with workers before it takes the next.

    Parameters
    ----------
    cluster : Cluster
        Where.
    workers : int
        How many a training has at most.
    cpus, gpus : float
        What each reserves.
    needed : int
        Private bytes of each.
    shared : int
        Bytes that all workers of a machine hold together: the data in its object store.
    trainings : int
        How many there are at a time.

    Raises
    ------
    InputError
        If they fit none of the machines.
    """
    said, most = f"{gigabytes(needed)} per worker", workers * trainings
    if shared:
        said += f" and {gigabytes(shared)} of data per machine"
    hosts = [each for each in cluster.hosts(cpus, gpus) if each.memory is not None]
    if not hosts:
        return f"{said}; no machine is there yet to compare with"

    def spare(host: Machine) -> int:
        return (host.memory or 0) - shared - min(most, host.room(cpus, gpus)) * needed

    host = max(hosts, key=spare)
    together = min(most, host.room(cpus, gpus))
    said += f"; {together} on one machine, {host.name}, which has {gigabytes(host.memory or 0)}"
    if spare(host) >= 0:
        return said
    fitting = ((host.memory or 0) - shared) // needed
    if fitting > 0:
        cpus = host.cpus / fitting
        said += f": use --scaling.cpus_per_worker {cpus:g}, so that {fitting} share a machine"
        if fitting < workers or trainings == 1:
            said += f", or --scaling.num_workers {fitting}"
    raise InputError(f"host memory: {said}")


def check_gpu(cluster: Cluster, cpus: float, needed: int) -> str:
    """Say how a worker fits the memory of the GPUs.

    Raises
    ------
    InputError
        If it fits none of them.
    """
    hosts = cluster.hosts(cpus, 1)
    known = [each for each in hosts if each.gpu_memory is not None]
    if not hosts:
        return f"{gigabytes(needed)}; no machine with a GPU is there yet to compare with"
    if not known:
        return f"{gigabytes(needed)}; the GPUs' memory is not known"
    largest = max(known, key=lambda each: each.gpu_memory or 0)
    assumed = "" if largest.gpu_seen else " (assumed of its kind)"
    memory = largest.gpu_memory or 0
    share = f"{gigabytes(needed)} of {gigabytes(memory)}{assumed} on {largest.name}"
    if needed > memory:
        raise InputError(f"GPU memory: a worker needs {share}")
    return share


def _machine(name: str, has: dict[str, float], gpu_memory: int | None, count: int = 1) -> Machine:
    kinds = [key.removeprefix(_ACCELERATOR) for key in has if key.startswith(_ACCELERATOR)]
    seen = gpu_memory is not None
    if gpu_memory is None and kinds and kinds[0] in _GPU_GB:
        gpu_memory = _GPU_GB[kinds[0]] * 10**9
    reservable = has.get("memory")
    memory = None if reservable is None else reservable + has.get("object_store_memory", 0)
    return Machine(
        name,
        has.get("CPU", 0),
        has.get("GPU", 0),
        None if memory is None else int(memory),
        gpu_memory if has.get("GPU") else None,
        seen,
        count,
        int(reservable or 0),
    )


def _growth(machines: list[Machine]) -> tuple[Machine, ...]:
    """Return the types of machines that the autoscaler may add to those that are there."""
    file = _AUTOSCALER.expanduser()
    if not file.exists():
        return ()
    config = yaml.safe_load(file.read_text())
    left = config.get("max_workers", 0) - (len(machines) - 1)
    types = []
    for name, kind in config.get("available_node_types", {}).items():
        count = min(kind.get("max_workers", 0), left)
        if count > 0 and name != config.get("head_node_type"):
            types.append(_machine(name, kind.get("resources", {}), None, count))
    return tuple(types)
