"""One training step of the model alone, beside plain PyTorch, and beside what the machine can do.

    python benchmarks/step.py --models contract1 default --batches 32 256 --units 1000

Random rows lie in memory. A step is forward, loss, gradients, clipping and AdamW:

giblet_ray
    as a run takes it: training/step.py and training/optimizer.py, in the run's precision. What no
    step changes has been made before (training/made_once.py); how long that took is told.
plain
    the same architecture, loss and settings in float32: all that the model makes of the rows is
    made in each step, every frame of codes is embedded and multiplied, and torch.nn.Linear,
    torch.optim.AdamW and clip_grad_norm_ are as they come, in a process whose memory is as it
    comes.

They step equal weights in turn; that they find the same loss and gradients of the same batch is
checked first. The floor is the larger of two times: the step's multiplications at the rate of one
large matrix product, and the least memory traffic of its weights at the rate of one large copy:
read forward and backward, a gradient written, then AdamW (weight, gradient and two moments read,
three written), 4 bytes each. Activations count as nothing.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import numpy as np
import torch
from device_speed import Machine, wait
from machine import CONSOLE, cpu_model
from rates import compare, spread
from rich.table import Table
from seed import SEED_JOB
from target import Target, add_targets, tell
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss
from torch.nn.utils import get_total_norm
from torch.optim import AdamW
from torch.utils.flop_counter import FlopCounterMode

from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows, batch_windows, window_trs
from giblet_ray.models import audio, linear
from giblet_ray.models.multimodal.inputs import Components
from giblet_ray.models.predictor import Predictor, Shapes, build_predictor
from giblet_ray.parts.value import ValueType
from giblet_ray.training.made_once import parts_to_keep
from giblet_ray.training.optimizer import build_optimizer
from giblet_ray.training.step import LossTotals, Ranks, Scores, seed_dropout, use_bf16

MODELS: Mapping[str, Mapping[str, Any]] = {"contract1": SEED_JOB, "default": {}}
FASTER = {"cpu": 2.0, "cuda": 5.0}
"""Least times faster than plain that a step must be, by the kind of device."""
STEPS, ROUND_SECONDS = 4, 1.0
"""Least of a round: the first steps after a pause are slower than those that follow each other in
a training."""
OF_FLOOR = 0.6
"""Least share of a GPU's step that the floor must be."""
WEIGHT_BYTES = 4 * (1 + 1 + 1 + 4 + 3)
STATE_BYTES = 2 * 4 * (1 + 1 + 2)
"""Of each parameter, in both processes: itself, its gradient, and the moments."""
_FILM_TRS, _TR_SECONDS = 1000, 1.5
_LOSS_APART, _GRADIENTS_APART = 1e-5, 1e-2
_STD = 0.02


def shapes_of(n_units: int) -> Shapes:
    """Return the shapes of the demo's parts and one subject of so many units."""
    rows = {"frames": ("uint8", (3, 90, 160)), "codes": ("int16", (8, 112))}
    rows |= {"text": ("float32", (1024,)), "bold": ("float32", (n_units,))}
    values = {part: ValueType(dtype=dtype, shape=shape) for part, (dtype, shape) in rows.items()}
    encoders = {"frames": "image", "codes": "codes", "text": "vector"}
    return Shapes(values, encoders, {"01": n_units}, _TR_SECONDS)


class Training:
    """A model with a batch, and both ways to step it.

    Parameters
    ----------
    job : TrainJob
        What is trained.
    n_units : int
        Units of its one subject.
    device : torch.device
        Where it trains.
    """

    def __init__(self, job: TrainJob, n_units: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.job, self.device, self.shapes = job, device, shapes_of(n_units)
        with device:
            self.model: Predictor = build_predictor(job.model, self.shapes)
        for weight in self.model.parameters():
            if weight.dim() > 1 and not weight.any():  # what is constant correlates with nothing
                nn.init.normal_(weight, std=_STD)
        self.batch = self._batch(job.train.batch_trs, n_units)
        inputs = self.shapes.inputs(self.batch.values)
        for part, vectors in self.model.get_submodule("inputs").named_children():
            if isinstance(vectors, Components):
                vectors.fit(vectors.raw(inputs[part].flatten(0, 1)))
        self.kept_parts = frozenset(parts_to_keep(self.model, self.shapes))
        started = time.perf_counter()
        self.kept = self._made_once()
        self.made_seconds = time.perf_counter() - started
        self.ranks = Ranks(self.model, 1, device, frozen_batch_norm=False)
        ones = np.ones((1, n_units), np.float32)
        normalisation = Normalisation((ScanKey("01", "film"),), 0 * ones, ones, ones > 0)
        self.scores = Scores(normalisation, self.shapes, job, device)
        self.totals = LossTotals({}, device)
        how = job.as_its_model.optimizer
        decays = how.weight_decay, how.head_weight_decay
        self.optimizer = build_optimizer(self.model, *decays, how.betas)
        groups = [
            {"params": parameters, "weight_decay": decay}
            for decay, parameters in self.optimizer.groups.items()
        ]
        self.plain_optimizer = AdamW(groups, lr=how.lr, betas=how.betas)

    def _batch(self, batch_trs: int, n_units: int) -> Batch:
        context = self.model.context_trs
        length = window_trs(context, batch_trs, _FILM_TRS)
        n = batch_windows(batch_trs, length)
        trs = n, context + length
        values = {
            "frames": torch.randint(0, 256, (*trs, 3, 90, 160), dtype=torch.uint8),
            "codes": torch.randint(0, 1024, (*trs, 8, 112), dtype=torch.int16),
            "text": torch.randn(*trs, 1024),
            "bold": torch.randn(n, length, n_units),
        }
        exists = torch.ones(trs, dtype=torch.bool, device=self.device)
        scan, start, lengths = (np.full(n, each, np.int32) for each in (0, context, length))
        moved = {part: value.to(self.device) for part, value in values.items()}
        return Batch(moved, exists, Windows(scan, start, lengths))

    def _made_once(self) -> Batch:
        """Return the batch as a run has it after its first pass."""
        inputs = self.shapes.inputs(self.batch.values)
        vectors = {part: self.model.fixed_vectors[part](inputs[part]) for part in self.kept_parts}
        others = {part: of for part, of in self.batch.values.items() if part not in vectors}
        wait(self.device)
        return replace(self.batch, values=others, vectors=vectors)

    @property
    def n_trs(self) -> int:
        """BOLD TRs of the batch."""
        return self.batch.windows.n_trs

    def gradients(self) -> Tensor:
        """Find and clip gradients as a run does; return the loss."""
        self._backward()
        return torch.tensor(self.totals.latest()["step/loss"])

    def _backward(self) -> None:
        self.model.given_vectors = self.kept_parts
        self.scores.backward(self.ranks, self.kept, self.n_trs, self.totals)

    def plain_loss(self) -> Tensor:
        """Return the loss, found plainly."""
        batch = self.batch
        self.model.train()
        self.model.given_vectors = frozenset()
        subject = torch.zeros(len(batch.windows), dtype=torch.long)
        inputs = self.shapes.inputs(batch.values)
        with (
            mock.patch.object(audio, "tables_pay", return_value=False),
            mock.patch.object(linear.Linear, "forward", torch.nn.Linear.forward),
        ):
            predicted = self.model(inputs, batch.exists, subject)[0].flatten(0, 1)
        target = batch.values["bold"].flatten(0, 1)
        pearson = cosine_similarity(predicted - predicted.mean(0), target - target.mean(0), dim=0)
        weight = getattr(self.job.loss, "correlation_weight", 0.0)
        return mse_loss(predicted, target) + weight * (1 - pearson).mean()

    def plain_gradients(self) -> Tensor:
        """Find and clip gradients plainly; return the loss."""
        loss = self.plain_loss()
        loss.backward()
        limit = self.job.optimizer.max_grad_norm
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return loss.detach()

    def step(self, number: int) -> int:
        """Take a step as a run does; return the TRs."""
        seed_dropout(0, number, 0)
        self._backward()
        self.optimizer.step(self.job.as_its_model.optimizer.lr)
        self.optimizer.zero_grad()
        wait(self.device)
        return self.n_trs

    def plain_step(self, number: int) -> int:
        """Take a plain step; return the TRs."""
        seed_dropout(0, number, 0)
        self.plain_gradients()
        self.plain_optimizer.step()
        self.plain_optimizer.zero_grad()
        wait(self.device)
        return self.n_trs

    def check(self) -> tuple[float, float]:
        """Return by how much the two ways differ: in loss, and in the norm of the gradients.

        A ReLU or a maximum whose inputs differ by less than rounding gives another row's gradient
        to one of the two: of single numbers that shows, of the norm hardly.

        Raises
        ------
        RuntimeError
            If float32 and float32 differ by more than that.
        """
        found = []
        for way in (self.gradients, self.plain_gradients):
            seed_dropout(0, 0, 0)
            loss = float(way())
            found.append((loss, [p.grad for p in self.model.parameters() if p.grad is not None]))
            self.model.zero_grad(set_to_none=True)
        (loss, gradients), (plain_loss, plain_gradients) = found
        pairs = zip(gradients, plain_gradients, strict=True)
        apart = get_total_norm([one - other for one, other in pairs])
        of_gradients = float(apart / get_total_norm(plain_gradients))
        of_loss = abs(loss - plain_loss) / plain_loss
        is_half = use_bf16(self.job.train.precision, self.device)
        if not is_half and (of_loss > _LOSS_APART or of_gradients > _GRADIENTS_APART):
            raise RuntimeError(f"losses differ by {of_loss:.1e}, gradients by {of_gradients:.1e}")
        return of_loss, of_gradients

    def floor_seconds(self, machine: Machine) -> float:
        """Return the least time that the machine needs for a step."""
        with FlopCounterMode(display=False) as counted:
            self.gradients()
        self.model.zero_grad(set_to_none=True)
        n = sum(each.numel() for each in self.model.parameters())
        return max(counted.get_total_flops() / machine.flops, n * WEIGHT_BYTES / machine.bandwidth)


@contextmanager
def plain_steps(
    job: TrainJob, n_units: int, device: torch.device
) -> Iterator[Callable[[range], int]]:
    """Give what takes plain steps of these numbers, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=step_plainly, args=(theirs, job, n_units, device), daemon=True)
    with mock.patch.dict(os.environ, {"THP_MEM_ALLOC_ENABLE": "0"}):
        process.start()
    theirs.close()

    def steps(numbers: range) -> int:
        ours.send(numbers)
        return int(ours.recv())

    try:
        yield steps
    finally:
        ours.close()
        process.join()


def step_plainly(connection: Connection, job: TrainJob, n_units: int, device: torch.device) -> None:
    """Take the plain steps that are asked for, until nobody asks."""
    training = Training(job, n_units, device)
    while True:
        try:
            numbers = connection.recv()
        except EOFError:
            return
        connection.send(sum(map(training.plain_step, numbers)))


def steps_of_a_round(training: Training) -> int:
    """Return how many steps a round has."""
    sum(map(training.step, range(STEPS)))
    started = time.perf_counter()
    sum(map(training.step, range(STEPS)))
    return max(STEPS, math.ceil(STEPS * ROUND_SECONDS / (time.perf_counter() - started)))


def measure(
    name: str, batch_trs: int, n_units: int, machine: Machine, repeats: int
) -> tuple[list[str], list[Target]]:
    """Time both ways of a model.

    Returns
    -------
    cells : list of str
        A row of the table; empty where there is no memory for it.
    targets : list of Target
        What was promised, measured or not.
    """
    settings, device = MODELS[name], machine.device
    train = {**settings.get("train", {}), "batch_trs": batch_trs}
    job = TrainJob.model_validate({**settings, "dataset": "-", "train": train})
    what = f"step of {name}, {batch_trs} TRs, {n_units:,} units"
    with torch.device("meta"):
        n = sum(p.numel() for p in build_predictor(job.model, shapes_of(n_units)).parameters())
    if n * STATE_BYTES > machine.free_bytes:
        free = f"{machine.free_bytes / 1e9:.0f} GB are free"
        CONSOLE.print(f"{what}: left out, needs {n * STATE_BYTES / 1e9:,.0f} GB, {free}")
        return [], _targets(what, machine, [], [])
    training = Training(job, n_units, device)
    if training.kept_parts:
        parts, made = ", ".join(sorted(training.kept_parts)), 1e3 * training.made_seconds
        CONSOLE.print(f"{what}: vectors of {parts}, made once: {made:,.1f} ms")
    of_loss, of_gradients = training.check()
    floor = training.floor_seconds(machine)
    with plain_steps(job, n_units, device) as plainly:
        n = steps_of_a_round(training)

        def numbers(round_: int) -> range:
            return range(n * round_, n * (round_ + 1))

        ways: dict[str, Callable[[int], int]] = {
            "giblet_ray": lambda round_: sum(map(training.step, numbers(round_))),
            "plain": lambda round_: plainly(numbers(round_)),
        }
        rates = compare(ways, repeats)
    ours, plain = rates["giblet_ray"], rates["plain"]
    faster = ours.over(plain)
    shares = [floor * rate / training.n_trs for rate in ours.per_round]
    seconds = (training.n_trs / ours.median, training.n_trs / plain.median, floor)
    times = (f"{1e3 * each:,.1f}" for each in seconds)
    cells = [name, f"{batch_trs}", f"{n_units:,}", *times, spread(faster)]
    cells += [f"{statistics.median(shares):.2f}", f"{of_loss:.0e}, {of_gradients:.0e}"]
    return cells, _targets(what, machine, faster, shares)


def _targets(what: str, machine: Machine, faster: list[float], shares: list[float]) -> list[Target]:
    """Return what was promised, for both kinds of devices, of which this machine has one."""
    here = machine.device.type
    return [
        *(
            _target(f"{what}, {kind}: times faster than plain", faster * (kind == here), bound)
            for kind, bound in FASTER.items()
        ),
        _target(f"{what}, cuda: floor / step", shares * (here == "cuda"), OF_FLOOR),
    ]


def _target(what: str, found: list[float], bound: float) -> Target:
    if not found:
        return Target(1, what, None, bound, True, None)
    return Target(1, what, statistics.median(found), bound, True, (min(found), max(found)))


def main() -> None:
    """Parse, measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256], help="BOLD TRs")
    parser.add_argument("--units", type=int, nargs="+", default=[1000])
    parser.add_argument("--repeats", type=int, default=3, help="rounds, after one to warm up")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    add_targets(parser)
    given = parser.parse_args()
    machine = Machine.measure(given.device)
    CONSOLE.print(
        f"{cpu_model()}, {torch.get_num_threads()} threads; {given.device}: "
        f"{machine.flops / 1e9:,.0f} GFLOP/s, {machine.bandwidth / 1e9:,.1f} GB/s"
    )
    table = Table(
        *("model", "TRs", "units", "step, ms", "plain, ms", "floor, ms"),
        *("times faster", "floor / step", "loss, gradients differ by"),
    )
    targets: list[Target] = []
    for name, n_units, batch_trs in product(given.models, given.units, given.batches):
        cells, found = measure(name, batch_trs, n_units, machine, given.repeats)
        if cells:
            table.add_row(*cells)
        targets += found
    CONSOLE.print(table)
    tell(targets, given.targets)


if __name__ == "__main__":
    main()
