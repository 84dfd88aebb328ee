"""The steps that sharded_head.py measures: of the last layer alone, and of a training."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from giblet_ray.checkpoint.files import save_state
from giblet_ray.checkpoint.pieces import state_files, weight_pieces
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.models.shards import UnitShards
from giblet_ray.parts.value import ValueType
from giblet_ray.training.checkpoint_writer import copy_to_host
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.optimizer import build_optimizer
from giblet_ray.training.shard_head import share_out_head
from giblet_ray.training.step import Ranks, Scores

CPU = torch.device("cpu")
NUMBERS = 90
"""Of the vector that the trunk reads."""


@dataclass(frozen=True)
class Size:
    """What is measured."""

    units: int
    hidden: int
    rows: int
    steps: int


@dataclass(frozen=True)
class Measured:
    """Of one contender: each round's seconds a step, and of rank 0 what it holds and sends."""

    seconds: list[float]
    sent: float
    held: int
    losses: list[float]
    checkpoint: tuple[float, float] = (0.0, 0.0)


def run_ranks(workers: int, measure: Callable[..., Any], size: Size) -> list[Measured]:
    """Let so many processes measure together; return what rank 0 did."""
    with tempfile.TemporaryDirectory() as folder:
        spawned = multiprocessing.get_context("spawn")
        ranks = [
            spawned.Process(target=_run_rank, args=(rank, workers, measure, size, Path(folder)))
            for rank in range(workers)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            raise SystemExit(f"a worker ended with {[each.exitcode for each in ranks]}")
        found: list[Measured] = torch.load(Path(folder) / "found.pt", weights_only=False)
        return found


def _run_rank(
    rank: int, workers: int, measure: Callable[..., Any], size: Size, folder: Path
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=workers
    )
    found = measure(rank, workers, size)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


Step = Callable[[int], float]
"""Take step number n; return its loss."""


def _in_turn(contenders: list[tuple[Step, int]], workers: int, n_steps: int) -> list[Measured]:
    """Measure the contenders' steps; each comes with the bytes that it holds."""
    seconds: list[list[float]] = [[] for _ in contenders]
    losses: list[list[float]] = [[] for _ in contenders]
    sent = [0.0 for _ in contenders]
    for n in range(n_steps + 1):
        for index, (step, _) in enumerate(contenders):
            dist.barrier()
            before, started = _loopback_bytes(), time.perf_counter()
            losses[index].append(step(n))
            dist.barrier()
            if n > 0:
                seconds[index].append(time.perf_counter() - started)
                sent[index] += (_loopback_bytes() - before) / workers / n_steps
    held = [bytes_held for _, bytes_held in contenders]
    return [Measured(*each) for each in zip(seconds, sent, held, losses, strict=True)]


def _loopback_bytes() -> int:
    """Return the bytes that were sent over the loopback device so far."""
    return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def last_layer(rank: int, workers: int, size: Size) -> list[Measured]:
    """The layer to the units alone: hidden rows and targets are there."""
    random = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(size.rows, size.hidden, generator=random)
    target_NV = torch.randn(size.rows, size.units, generator=random)
    mine = slice(size.rows * rank // workers, size.rows * (rank + 1) // workers)
    return _in_turn(
        [
            _whole_layer(size, hidden_NH[mine], target_NV[mine]),
            _shared_layer(rank, workers, size, hidden_NH[mine], target_NV),
        ],
        workers,
        size.steps,
    )


def _layer(size: Size) -> nn.Linear:
    layer = nn.Linear(size.hidden, size.units)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _held(parameters: list[nn.Parameter]) -> int:
    """Return the bytes of parameters, their gradients and AdamW's two numbers for each."""
    return 4 * sum(parameter.nbytes for parameter in parameters)


def _whole_layer(size: Size, hidden_NH: torch.Tensor, target_NV: torch.Tensor) -> tuple[Step, int]:
    layer = _layer(size)
    parallel = DistributedDataParallel(layer, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, fused=True)

    def step(n: int) -> float:
        inputs = hidden_NH.clone().requires_grad_()
        # Gradients are averaged over the workers, where these have to be added.
        squares = (parallel(inputs) - target_NV).square().sum()
        loss = squares * dist.get_world_size() / (size.rows * size.units)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return _mean(loss)

    return step, _held([*layer.parameters()])


def _mean(loss: torch.Tensor) -> float:
    total = loss.detach().clone()
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def _shared_layer(
    rank: int, workers: int, size: Size, hidden_NH: torch.Tensor, target_NV: torch.Tensor
) -> tuple[Step, int]:
    shards = UnitShards(rank, workers, [size.units])
    start, stop = shards.bounds(size.units)
    own_NV, whole = target_NV[:, start:stop].clone(), _layer(size)
    layer = nn.Linear(size.hidden, stop - start)
    layer.load_state_dict({name: of[start:stop] for name, of in whole.state_dict().items()})
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, fused=True)

    def step(n: int) -> float:
        inputs = hidden_NH.clone().requires_grad_()
        rows_BWH = inputs[:, None]
        sizes = shards.sizes(rows_BWH.shape)
        predicted_NV = layer(shards.gather(rows_BWH, sizes)[:, 0])
        loss = (predicted_NV - own_NV).square().sum() / target_NV.numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return _mean(loss) * workers

    return step, _held([*layer.parameters()])


def whole_step(rank: int, workers: int, size: Size) -> list[Measured]:
    """The training's step of a trunk and the layer, and their checkpoint."""
    contenders = [_training_step(rank, workers, size, sharding) for sharding in ("off", "on")]
    measured = _in_turn([(step, held) for step, held, _ in contenders], workers, size.steps)
    return [
        Measured(of.seconds, of.sent, of.held, of.losses, _checkpoint(rank, *state))
        for of, (_, _, state) in zip(measured, contenders, strict=True)
    ]


def _training_step(
    rank: int, workers: int, size: Size, sharding: str
) -> tuple[Step, int, tuple[Any, ...]]:
    """Return a step, the bytes that it holds of the head, and what a checkpoint is of."""
    job, shapes = _job(sharding, size), _shapes(size)
    torch.manual_seed(0)
    model = build_predictor(job.model, shapes)
    shards = share_out_head(model, job, shapes, rank, workers)
    optimizer = build_optimizer(model)
    scan = np.ones((1, size.units), np.float32)
    normalisation = Normalisation((ScanKey("01", "film"),), 0 * scan, scan, scan.astype(bool))
    scores = Scores(normalisation, shapes, job, CPU, shards)
    ranks = Ranks(model, workers, CPU, frozen_batch_norm=False, shards=shards)
    batch, totals = _batch(rank, workers, size), LossTotals({}, CPU)

    def step(n: int) -> float:
        scores.backward(ranks, batch, size.rows, totals)
        optimizer.step(job.as_its_model.optimizer.lr)
        optimizer.zero_grad()
        return float(totals.latest()["step/loss"])

    head = [each for name, each in model.named_parameters() if name in model.head_units]
    return step, _held(head), (model, optimizer.state, shards)


def _checkpoint(
    rank: int, model: Any, moments: Any, shards: UnitShards | None
) -> tuple[float, float]:
    """Return the seconds until all files are written, and those until training goes on."""
    dist.barrier()
    started = time.perf_counter()
    copied = waited = 0.0
    if rank == 0 or shards is not None:
        copied_files = copy_to_host(state_files(model, moments, weight_pieces(model, shards), rank))
        copied = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder), copied_files)
    dist.barrier()
    waited = time.perf_counter() - started
    return waited, copied


def _job(sharding: str, size: Size) -> TrainJob:
    model = {
        **{"kind": "multimodal", "inputs": "vectors", "memory": "none", "heads": "shared"},
        **{"head": "linear", "bottleneck_dim": size.hidden, "shard_head": sharding},
    }
    return TrainJob.model_validate(
        {"dataset": "", "model": model, "train": {"batch_trs": size.rows, "precision": "fp32"}}
    )


def _shapes(size: Size) -> Shapes:
    values = {
        "vector": ValueType(dtype="float32", shape=(NUMBERS,)),
        "bold": ValueType(dtype="float32", shape=(size.units,)),
    }
    return Shapes(values, {"vector": "vector"}, {"01": size.units}, 1.5)


def _batch(rank: int, workers: int, size: Size) -> Batch:
    """Return a rank's windows of one TR."""
    random = torch.Generator().manual_seed(0)
    vectors = torch.randn(size.rows, 1, NUMBERS, generator=random)
    bold = torch.randn(size.rows, 1, size.units, generator=random)
    mine = slice(size.rows * rank // workers, size.rows * (rank + 1) // workers)
    n = mine.stop - mine.start
    first = np.arange(mine.start, mine.stop, dtype=np.int32)
    windows = Windows(np.zeros(n, np.int32), first, np.ones(n, np.int32))
    exists = torch.ones(n, 1, dtype=torch.bool)
    return Batch({"vector": vectors[mine], "bold": bold[mine]}, exists, windows)
