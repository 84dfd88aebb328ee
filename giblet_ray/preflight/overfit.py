"""Whether a model can learn one batch by heart: if not, it will learn nothing from many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import Batch, Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.view import DataView
from giblet_ray.dataset.windows import Windows, batch_windows
from giblet_ray.models.predictor import build_predictor
from giblet_ray.training.data import model_shapes
from giblet_ray.training.fit import TrainingWindows
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.optimizer import build_optimizer
from giblet_ray.training.step import Ranks, Scores

_STEPS = 100
_SECONDS = 15.0
_LR = 1e-3
_TRS = 32
_LEARNED = 0.5
"""A batch is being learned by heart when so much of its loss is left at most."""
_ENOUGH = 0.25
"""What is left of the loss when there is nothing more to show."""


@dataclass(frozen=True)
class Overfit:
    """Losses of one batch, learned again and again without dropout."""

    windows: int
    steps: int
    """Size of the batch, and how often it was learned."""
    first: float
    last: float
    """Loss before and after."""
    suspects: tuple[str, ...]
    """What may keep the model from learning: inputs that never change, voxels that are masked."""

    @property
    def learned(self) -> bool:
        """Whether the loss fell as it must."""
        return self.last < _LEARNED * self.first

    def __str__(self) -> str:
        course = f"loss {self.first:.3f} -> {self.last:.3f} in {self.steps} steps"
        course += f" on {self.windows} windows"
        if self.learned:
            return f"yes: {course}"
        if self.steps < _STEPS:
            return f"not yet: {course}, all that the time allowed"
        causes = "; ".join(self.suspects) or "the model may be small, or need more steps than these"
        return f"no: {course} at lr {_LR:g}: {causes}"


def overfit(
    job: TrainJob,
    data: DataView,
    loader: Loader,
    windows: Windows,
    normalisation: Normalisation,
    seconds: float = _SECONDS,
) -> Overfit:
    """Learn one batch again and again, until a quarter of its loss is left or 100 steps are done.

    Parameters
    ----------
    job : TrainJob
        Settings of the run, of which dropout, learning rate and weight decay are not used.
    data : DataView
        For the shapes.
    loader : Loader
        Delivers the batch.
    windows : Windows
        The first of these are learned.
    normalisation : Normalisation
        How BOLD is z-scored.
    seconds : float
        Time after which it ends in any case.
    """
    device = torch.device("cpu")
    torch.manual_seed(job.train.seed)
    dropouts = [name for name in type(job.model).model_fields if name.endswith("dropout")]
    settings = job.model.model_copy(update=dict.fromkeys(dropouts, 0.0))
    shapes = model_shapes(data)
    model = build_predictor(settings, shapes, job.packages)
    whole = job.model_copy(
        update={"train": job.train.model_copy(update={"accumulation": 1}), "model": settings}
    )
    ranks = Ranks(model, 1, device, frozen_batch_norm=settings.batch_norm == "frozen")
    scores = Scores(normalisation, shapes, whole, device)
    where = data.dataset.storage.location
    model.prepare(TrainingWindows(windows, normalisation.scans, loader, scores, _TRS, where))
    optimizer = build_optimizer(model, weight_decay=0.0)
    chosen = windows[: max(2, batch_windows(min(_TRS, job.train.batch_trs), data.window))]
    (batch,) = loader.batches([chosen])
    losses: list[float] = []
    started = time.monotonic()
    while len(losses) < 2 or (
        len(losses) <= _STEPS
        and losses[-1] > _ENOUGH * losses[0]
        and time.monotonic() - started < seconds
    ):
        totals = LossTotals({}, device)
        scores.backward(ranks, batch, chosen.n_trs, totals)
        losses.append(totals.latest()["step/loss"])
        optimizer.step(_LR)
        optimizer.zero_grad()
    return Overfit(
        windows=len(chosen),
        steps=len(losses) - 1,
        first=losses[0],
        last=losses[-1],
        suspects=tuple(_suspects(batch, normalisation, data.units)),
    )


def _suspects(batch: Batch, normalisation: Normalisation, units: Mapping[str, int]) -> list[str]:
    found = [
        f"{name} is the same in every row of the batch"
        for name, value in batch.values.items()
        if name != "bold" and bool((value == value.flatten(0, 1)[0]).all())
    ]
    if normalisation.n_masked:
        of_all = f"{sum(units.values()):,} voxels of {len(units)} subjects"
        found.append(f"{normalisation.n_masked:,} of {of_all} are constant: masked")
    return found
