"""Workers that share out the batches of epochs from the same blocks, and the memory of it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

import ray
from ingest_plan import Plan
from memory import Memory, Peak, private_bytes, shared_bytes

from giblet_ray.dataset.windows import rank_part


def watch_epochs(
    plan: Plan, blocks: Sequence[ray.ObjectRef], shared_before: int, n_workers: int
) -> Memory:
    """Let workers take epochs from the same blocks, each its share of every batch as a training's
    workers do, and watch their memory.

    Parameters
    ----------
    plan : Plan
        What they take.
    blocks : sequence of ObjectRef
        In the object store.
    shared_before : int
        Shared memory of the node (bytes) before there were any.
    n_workers : int
        At a time.
    """
    workers = [EpochWorker.remote(plan) for _ in range(n_workers)]  # type: ignore[attr-defined]
    pids = ray.get([worker.pid.remote() for worker in workers])
    start = private_bytes(pids)
    peak = Peak(lambda: (shared_bytes() - shared_before, private_bytes(pids)))
    with peak:
        # In a list, so that the references travel and not what they refer to.
        counts = ray.get(
            [worker.epoch.remote([blocks], rank, n_workers) for rank, worker in enumerate(workers)]
        )
    if sum(counts) != plan.n_rows:
        raise RuntimeError(f"workers were given {counts} rows, not {plan.n_rows} in all")
    for worker in workers:
        ray.kill(worker)
    store, private = (max(values) for values in zip(*peak.seen, strict=True))
    return Memory(n_workers, store, start, private)


@ray.remote(num_cpus=0)
class EpochWorker:
    """A process that maps the blocks, as a training worker does."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def pid(self) -> int:
        """Return the process's id, when what a training's worker imports has been imported."""
        importlib.import_module("giblet_ray.training.worker")
        return os.getpid()

    def epoch(self, blocks: list[list[ray.ObjectRef]], rank: int, n_workers: int) -> int:
        """Take a rank's share of two shuffled epochs; return the rows of the second."""
        loader = self._plan.hold(ray.get(blocks[0]))
        for epoch in range(2):
            order = [rank_part(batch, rank, n_workers) for batch in self._plan.shuffled(epoch)]
            count = sum(len(batch.windows) for batch in loader.batches(order))
        return count
