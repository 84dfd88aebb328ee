"""BatchNorm's statistics, taken again for the weights that are evaluated. Torch alone.

While a model trains, its running statistics follow weights that have moved on, with dropout's
noise: at a few steps an epoch they lag by whole epochs, and a score is as much theirs as the
model's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from giblet_ray.dataset.order import Step

RETAKEN_TRS = 512
"""Training TRs that statistics are taken from: whole batches, those with which the epoch began. So
many predictions without gradients are what it costs; validation, with more TRs, costs more."""


def retaking_steps(steps: Iterable[Step]) -> list[Step]:
    """Return the steps of an epoch that statistics are taken from, the same for any rank."""
    taken, n_trs = [], 0
    for step in steps:
        if n_trs >= RETAKEN_TRS:
            break
        taken.append(step)
        n_trs += step.n_trs
    return taken


def layers_that_adapt(model: nn.Module) -> list[_BatchNorm]:
    """Return the layers of a model, in its training mode, that keep running statistics."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    ]


@torch.no_grad()
def retake(
    model: nn.Module, layers: Iterable[_BatchNorm], predict: Callable[[], None], world_size: int
) -> None:
    """Take running statistics from batches of the training data, without dropout.

    Parameters
    ----------
    model : nn.Module
        Left in evaluation mode.
    layers : iterable of _BatchNorm
        Its layers whose statistics are taken: each then has the mean over batches and ranks of a
        batch's mean and variance.
    predict : callable
        Runs the model on the batches, as many of them on every rank.
    world_size : int
        Ranks; all call it together.
    """
    model.eval()
    layers = list(layers)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
        layer.train()
    predict()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
    if world_size > 1:
        for statistics in itertools.chain.from_iterable(map(_statistics, layers)):
            dist.all_reduce(statistics)
            statistics /= world_size


def _statistics(layer: _BatchNorm) -> Iterable[torch.Tensor]:
    return [each for each in (layer.running_mean, layer.running_var) if each is not None]
