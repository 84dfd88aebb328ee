"""One rank of a training without Ray: rows as tensors in its memory, gloo between the ranks.

    torchrun --nproc-per-node 2 benchmarks/under_torchrun.py TIMES WORDS

Takes the words that jobs/train.py takes. Rank 0 writes what it logged, and when.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from in_memory import InMemory, TimedLink

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob


def main(times: Path, job: TrainJob) -> None:
    """Train as the rank that the environment names."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if world_size > 1:
        dist.init_process_group("gloo")
    link = TimedLink(torch.device("cpu"), rank, world_size)
    InMemory(job).train(link)
    if rank == 0:
        times.write_text(json.dumps([asdict(point) for point in link.points]))
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), parse_job(TrainJob, sys.argv[2:]))
