"""One rank of the distributed loss test: `python loss_rank.py RANK WORLD_SIZE FOLDER`.

Reads FOLDER/inputs.pt and writes FOLDER/rank<RANK>.pt: per correlation weight, the loss terms of
this rank's rows and the gradients that DistributedDataParallel left in the model.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from giblet_ray.training.encoding_loss import EncodingLoss


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=world_size
    )
    given = torch.load(folder / "inputs.pt")
    rows = slice(*given["bounds"][rank : rank + 2])
    results = {}
    for weight in given["correlation_weights"]:
        model = nn.Linear(*reversed(given["model"]["weight"].shape))
        model.load_state_dict(given["model"])
        parallel = DistributedDataParallel(model)
        loss = EncodingLoss(weight)
        shares = (given[name][rows] for name in ("target", "valid"))
        terms = loss(parallel(given["features"][rows]), *shares, len(given["features"]))
        terms.objective.backward()
        results[weight] = {
            "loss": terms.loss,
            "mse": terms.mse,
            "correlation_loss": terms.correlation_loss,
            "gradients": [model.weight.grad, model.bias.grad],
        }
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # Gloo's threads can abort an interpreter that shuts down in good order.
    os._exit(0)
