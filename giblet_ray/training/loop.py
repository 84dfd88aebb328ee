"""The training of one rank, from top to bottom.

Knows torch and the data; of Ray and MLflow it sees only the :class:`Link` that it is handed, so
that the same code runs in a Ray Train worker and inside a trial's own process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from giblet_ray.checkpoint.files import restore_checkpoint
from giblet_ray.checkpoint.record import Position, RunRecord
from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import OrderedWindows
from giblet_ray.models.fitted import FittedPredictor
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.training.checkpoint_writer import CheckpointWriter
from giblet_ray.training.finished import is_finished
from giblet_ray.training.fit import fit_at_once, training_trs
from giblet_ray.training.initial import freeze_trunk, take_trunk
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.made_once import make_once
from giblet_ray.training.memory import MemoryPeak
from giblet_ray.training.optimizer import build_optimizer, build_schedule
from giblet_ray.training.pace import Rate, epoch_line
from giblet_ray.training.shard_head import share_out_head
from giblet_ray.training.step import Ranks, Scores, seed_dropout


class Link(Protocol):
    """How a rank talks to whoever runs it."""

    rank: int
    world_size: int
    device: torch.device
    awaits_checkpoints: bool
    """Whether a checkpoint is to be kept before the loop goes on: a report may end the process."""

    def resume(self) -> AbstractContextManager[Path | None]:
        """Give the folder of the latest checkpoint, if there is one."""

    def keep(self, folder: Path, name: str) -> None:
        """Keep this rank's files of a checkpoint, rank 0's after all others'; in a thread."""

    def report(self, metrics: dict[str, float]) -> None:
        """Report metrics; every rank calls it together."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record points of the training curves; only rank 0 calls it."""

    def unsent(self) -> list[Any]:
        """Return points that are recorded nowhere yet, for a checkpoint; only rank 0 calls it."""

    def show(self, line: str) -> None:
        """Tell the user; only rank 0 calls it."""


class BareLink:
    """A :class:`Link` of one rank to nobody; those that tell somebody something override that."""

    rank, world_size = 0, 1
    awaits_checkpoints = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def resume(self) -> AbstractContextManager[Path | None]:
        """Begin anew."""
        return nullcontext()

    def keep(self, folder: Path, name: str) -> None:
        """Keep nothing."""

    def report(self, metrics: dict[str, float]) -> None:
        """Tell nobody."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Record nothing."""

    def unsent(self) -> list[Any]:
        """Return nothing: no points are kept."""
        return []

    def show(self, line: str) -> None:
        """Say nothing."""


def train(
    job: TrainJob,
    run: RunRecord,
    windows: OrderedWindows,
    loader: Loader,
    normalisation: Normalisation,
    space: Mapping[str, bytes],
    link: Link,
) -> None:
    """Train until the epochs are done or nothing gets better.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    run : RunRecord
        What is trained on what, as checkpoints record it.
    windows : OrderedWindows
        Of all ranks.
    loader : Loader
        Delivers this rank's batches.
    normalisation : Normalisation
        How BOLD is z-scored.
    space : mapping of str to bytes
        What the space of the units is made of, for checkpoints.
    link : Link
        This rank's place among the others.

    Raises
    ------
    InputError
        If the loss is not finite, or the checkpoint to go on from is of another run.
    """
    settings, rank, world_size, device = job.train, link.rank, link.world_size, link.device
    torch.manual_seed(settings.seed)
    shapes = Shapes.of_record(run.dataset, run.lag_trs)
    model = build_predictor(job.model, shapes, job.packages)
    frozen_trunk = settings.freeze == "trunk"
    if frozen_trunk:
        freeze_trunk(model)
    shards = share_out_head(model, job, shapes, rank, world_size)
    model.to(device)
    if isinstance(model, FittedPredictor):
        fit_at_once(model, job, run, windows, loader, normalisation, space, link)
        return
    how = job.as_its_model.optimizer
    decays = how.weight_decay, how.head_weight_decay
    optimizer = build_optimizer(model, *decays, how.betas)
    position = Position()
    scores = Scores(normalisation, shapes, job, device, shards)
    with link.resume() as folder:
        if folder is not None:
            position = restore_checkpoint(folder, run, model, optimizer.state, shards)
            if rank == 0:
                link.show(f"continuing after epoch {position.epoch}, step {position.step}")
        elif rank == 0:  # the others are given rank 0's weights
            model.prepare(training_trs(job, run, windows.train, loader, scores, normalisation))
            take_trunk(model, run)
    steps_per_epoch = len(windows.steps(0, rank, world_size))
    total_steps = settings.epochs * steps_per_epoch
    warmup_steps = round(how.warmup_fraction * total_steps)
    schedule = build_schedule(how.lr, total_steps, warmup_steps, how.min_lr_fraction)
    frozen = job.model.batch_norm == "frozen", frozen_trunk
    ranks = Ranks(model, world_size, device, *frozen, shards)
    if not is_finished(position, settings):
        loader = make_once(model, loader, windows, normalisation, run.lag_trs, shapes, link)
    rate = Rate(total_steps, position.step)
    memory = MemoryPeak(device)
    state = optimizer.state
    with CheckpointWriter(model, state, normalisation, space, run, link, shards) as writer:
        while not is_finished(position, settings):
            whole_epoch = windows.steps(position.epoch, rank, world_size)
            steps = whole_epoch[position.step_in_epoch :]
            totals = LossTotals(position.loss_sums, device)
            waited, started, rows = loader.seconds_waited, time.perf_counter(), 0
            batches = loader.batches([windows.train[step.windows] for step in steps])
            for step, batch in zip(steps, batches, strict=True):
                seed_dropout(settings.seed, position.step, rank)
                learning_rate = schedule(position.step)
                gradient_norm = scores.backward(ranks, batch, step.n_trs, totals)
                optimizer.step(learning_rate)
                optimizer.zero_grad()
                position.step += 1
                position.step_in_epoch += 1
                rows += step.n_trs
                if rank == 0 and position.step % settings.log_every_steps == 0:
                    points = {
                        "train/lr": learning_rate,
                        "train/gradient_norm": float(gradient_norm),
                    }
                    link.log({**totals.latest(), **points}, position.step)
                    if rate.is_due():
                        line = f"epoch {position.epoch + 1}/{settings.epochs}"
                        line += f"  step {position.step_in_epoch}/{steps_per_epoch}"
                        seconds = time.perf_counter() - started
                        link.show(
                            f"{line}  {rows / seconds:,.0f} rows/s  {rate.left(position.step)}"
                        )
                every = settings.checkpoint_every_steps
                if (
                    every
                    and position.step % every == 0
                    and position.step_in_epoch < steps_per_epoch
                ):
                    position.loss_sums = totals.sums(position.epoch)
                    writer.save(position)
                    link.report({"step": position.step})
            train_metrics = totals.means(position.epoch)
            seconds = time.perf_counter() - started
            course = {
                "train/rows_per_second": rows / seconds,
                "train/data_wait_share": (loader.seconds_waited - waited) / seconds,
                "train/seconds": seconds,
                "train/steps": position.step,
            }
            scores.retake_batch_norm(ranks, loader, windows.train, whole_epoch)
            held_out, val_metrics = scores.evaluate(ranks, loader, windows.val, rank)
            position.epoch += 1
            position.step_in_epoch, position.loss_sums = 0, {}
            metrics = {**train_metrics, **val_metrics, **course, **memory.bytes()}
            position.history.append({"epoch": position.epoch, **metrics})
            if rank == 0:
                link.log(metrics, position.epoch)
                link.show(epoch_line(position, settings, rate.left(position.step)))
            writer.save(position, held_out)
            link.report({"epoch": position.epoch, **metrics})
