"""Whether several ranks, a GPU each, train as one does.

NCCL, SyncBatchNorm and a head that the ranks share out; on CPUs, gloo.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from gpu_numbers import LOSS, apart
from gpu_sizes import Checked
from in_memory import InMemory, TimedLink
from target import Target

from giblet_ray.config import TrainJob

ROW = 2
MOST_APART = 1e-3
_BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


def check_ranks(checked: Checked, n_ranks: int) -> list[Target]:
    """Set the losses of all steps of several ranks beside those of one."""
    frozen = {"batch_norm": "frozen", "norm": "layer"}
    models = {
        "LayerNorm": {**frozen, "shard_head": "off"},
        "LayerNorm, head shared out": {**frozen, "shard_head": "on"},
        "SyncBatchNorm": {"norm": "batch", "shard_head": "off"},
    }
    found, device = [], checked.device.type
    for name, settings in models.items():
        apart_by = _apart(checked, checked.encoder(**settings), n_ranks)
        # Without GPUs each rank normalises by its own part of a batch.
        differing = checked.of_gpu(apart_by) if name == "SyncBatchNorm" else apart_by
        what = f"{n_ranks} ranks over {_BACKENDS[device]} against one, {name}: step losses"
        said = f"{what}, largest relative difference"
        found.append(Target.once(ROW, said, differing, MOST_APART))
    return found


def _apart(checked: Checked, model: Mapping[str, Any], n_ranks: int) -> float:
    """Return how far the losses of a model's steps are from those of one rank."""
    job = checked.job(model, epochs=checked.size.epochs, precision="fp32")
    alone = TimedLink(checked.device)
    InMemory(job).train(alone)
    with tempfile.TemporaryDirectory() as name:
        given = n_ranks, checked.device.type, job, Path(name)
        torch.multiprocessing.spawn(_train_rank, given, nprocs=n_ranks)
        return apart(torch.load(Path(name) / "losses.pt"), alone.curve(LOSS))


def _train_rank(rank: int, n_ranks: int, device_type: str, job: TrainJob, folder: Path) -> None:
    """Train as one of the ranks; the first one writes its losses."""
    device = torch.device(device_type, rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group(_BACKENDS[device_type], meeting, rank=rank, world_size=n_ranks)
    link = TimedLink(device, rank, n_ranks)
    InMemory(job).train(link)
    if rank == 0:
        torch.save(link.curve(LOSS), folder / "losses.pt")
    dist.barrier()
    dist.destroy_process_group()
