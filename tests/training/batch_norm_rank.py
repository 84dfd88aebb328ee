"""One rank of the distributed BatchNorm test: `python batch_norm_rank.py RANK WORLD_SIZE FOLDER`.

Reads FOLDER/inputs.pt and writes FOLDER/rank<RANK>.pt: the state that this rank's model has after
its statistics were taken from its share of each batch.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from giblet_ray.dataset.windows import part_of
from giblet_ray.training.batch_norm import layers_that_adapt, retake


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=world_size
    )
    model: nn.Module = torch.load(folder / "inputs.pt", weights_only=False)
    batches = torch.load(folder / "batches.pt")

    def predict() -> None:
        for batch in batches:
            model(part_of(batch, rank, world_size))

    retake(model, layers_that_adapt(model), predict, world_size)
    torch.save(model.state_dict(), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # Gloo's threads can abort an interpreter that shuts down in good order.
    os._exit(0)
