"""Functions that run as the ranks of a process group, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PATIENCE_SECONDS = 120

# Ranks are forked from a process without threads that has loaded what takes seconds to load: the
# last is what DistributedDataParallel loads.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["giblet_ray.training.loop", "sklearn.metrics", "torch._dynamo"])


def run_ranks(n_ranks: int, function: Callable[..., Any], *given: Any) -> list[Any]:
    """Return what a function of a module, called with a rank and `given`, returns on each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(given, folder / "given.pt")
        ranks: list[BaseProcess] = [
            _FORKS.Process(target=_run_rank, args=(rank, n_ranks, function, folder))
            for rank in range(n_ranks)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(PATIENCE_SECONDS)
            process.kill()
            process.join()
        assert [process.exitcode for process in ranks] == [0] * n_ranks
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(n_ranks)]


def _run_rank(rank: int, n_ranks: int, function: Callable[..., Any], folder: Path) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=n_ranks)
    given = torch.load(folder / "given.pt", weights_only=False)
    torch.save(function(rank, *given), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    # Gloo's threads can abort an interpreter that shuts down in good order.
    os._exit(0)
