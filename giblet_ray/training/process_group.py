"""The process group of a training's workers, made without torch in what directs them.

What Ray Train has for this imports torch in its controller, too: two seconds, in which no worker is
started yet, and 200 MB. Here the controller tells the workers alone::

    driver --> controller --> workers: import torch, meet at the first one's address
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework

_LEAVE_SECONDS = 30.0
"""How long workers are waited for that end."""


class ProcessGroup(BackendConfig):
    """What ray.train.torch.TorchConfig asks for: NCCL between GPUs, gloo between CPUs."""

    @property
    def backend_cls(self) -> type[Backend]:
        """See :class:`ray.train.backend.BackendConfig`."""
        return _ByWorkers

    @property
    def train_func_context(self) -> Any:
        """See :class:`ray.train.backend.BackendConfig`; the driver asks, and workers enter it."""
        return _device_chosen

    @property
    def framework(self) -> TrainingFramework:
        """See :class:`ray.train.backend.BackendConfig`."""
        return TrainingFramework.TORCH


@contextmanager
def _device_chosen() -> Iterator[None]:
    """Do what Ray Train does around a worker's training; imported there."""
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield


class _ByWorkers(Backend):
    """Lets the workers do what sets up, and ends, their process group."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """See :class:`ray.train.backend.Backend`."""
        backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) else "gloo"
        meeting = worker_group.execute_single(0, get_address_and_port)
        n = len(worker_group)
        told = [(backend, rank, n, *meeting) for rank in range(n)]
        ray.get([worker_group.execute_single_async(of[1], _join, *of) for of in told])

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """See :class:`ray.train.backend.Backend`; those that are lost need not leave."""
        leaving = worker_group.execute_async(_leave, len(worker_group) > 1)
        ray.wait(leaving, num_returns=len(leaving), timeout=_LEAVE_SECONDS)


def _join(backend: str, rank: int, n_ranks: int, address: str, port: int) -> None:
    from ray.train.torch import config

    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = address, str(port)
    config._set_torch_distributed_env_vars()
    config._setup_torch_process_group(backend, rank, n_ranks, "env://")


def _leave(has_group: bool) -> None:
    from ray.train.torch import config

    config._shutdown_torch(destroy_process_group=has_group)
