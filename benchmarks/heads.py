"""What a head costs at a whole brain's units: parameters, memory, and CPU seconds of a step.

    OMP_NUM_THREADS=1 python benchmarks/heads.py --units 85810

Encodes vectors of 90 numbers with memory, 64 BOLD TRs a step, and updates with fused AdamW. Memory
is that of weights, gradients and AdamW's two moments, float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

import torch
from machine import CONSOLE, cpu_model
from rich.table import Table

from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType
from giblet_ray.training.encoding_loss import EncodingLoss
from giblet_ray.training.optimizer import build_optimizer

HEADS: Mapping[str, Mapping[str, Any]] = {
    "full, 2,048 wide": {"head": "full", "head_dim": 2048},
    "low rank, 64": {"head": "low_rank", "head_rank": 64},
    "low rank, 256": {"head": "low_rank", "head_rank": 256},
    "linear": {"head": "linear"},
}
SEEDS_WIDTH = 16384
_NUMBERS, _TRS, _TR_SECONDS = 90, 64, 1.5
_BYTES = 4 * 4


def full_parameters(n_features: int, width: int, n_units: int) -> int:
    """Return the parameters of a full head with normalisation."""
    return (n_features + 1 + 2) * width + (width + 1) * n_units


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=85_810)
    parser.add_argument("--steps", type=int, default=2, help="after one to warm up")
    given = parser.parse_args()
    table = Table("head", "parameters", "memory, GB", "CPU s a step", title=cpu_model())
    n_features = 0
    for name, settings in HEADS.items():
        n, n_features, seconds = _measure(settings, given.units, given.steps)
        table.add_row(name, f"{n:,}", f"{n * _BYTES / 1e9:.2f}", f"{seconds:.2f}")
    n = full_parameters(n_features, SEEDS_WIDTH, given.units)
    memory = f"{n * _BYTES / 1e9:.2f}"
    table.add_row(f"full, {SEEDS_WIDTH:,} wide", f"{n:,}", memory, "by arithmetic")
    CONSOLE.print(table)


def _measure(settings: Mapping[str, Any], n_units: int, steps: int) -> tuple[int, int, float]:
    """Return a head's parameters, the features that it reads, and the CPU seconds of a step."""
    values = {
        "numbers": ValueType(dtype="float32", shape=(_NUMBERS,)),
        "bold": ValueType(dtype="float32", shape=(n_units,)),
    }
    chosen = MultimodalConfig(
        inputs="vectors",
        trunk_dims=(),
        bottleneck_dim=256,
        norm="layer",
        memory="hrf",
        **settings,
    )
    shapes = Shapes(values, {"numbers": "vector"}, {"01": n_units}, _TR_SECONDS)
    model = build_predictor(chosen, shapes, ())
    of_heads = [each for name, each in model.named_parameters() if model.is_of_heads(name)]
    optimizer, loss = build_optimizer(model), EncodingLoss(0.5)
    numbers = torch.randn(1, model.context_trs + _TRS, _NUMBERS)
    exists = torch.ones(numbers.shape[:2], dtype=torch.bool)
    bold, valid = torch.randn(_TRS, n_units), torch.ones(_TRS, n_units, dtype=torch.bool)
    begun = 0.0
    for step in range(1 + steps):
        if step == 1:
            begun = time.process_time()
        predicted = model({"numbers": numbers}, exists, torch.zeros(1, dtype=torch.long))[0][0]
        loss(predicted, bold, valid, _TRS).objective.backward()
        optimizer.step(1e-3)
        optimizer.zero_grad()
    seconds = (time.process_time() - begun) / steps
    return sum(each.numel() for each in of_heads), chosen.bottleneck_dim * chosen.filters, seconds


if __name__ == "__main__":
    main()
