"""How large a model and its training step are, whatever the model: nothing is allocated.

Weights and what belongs to them are told by their shapes. What a step keeps for its backward pass
is measured: the training's own step runs on tensors that have shapes and no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from giblet_ray.checkpoint.unfilled import unfilled
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows, batch_windows
from giblet_ray.models.predictor import Predictor, Shapes, build_predictor
from giblet_ray.training.initial import freeze_trunk
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.made_once import vector_bytes
from giblet_ray.training.shard_head import is_shared_out
from giblet_ray.training.step import Ranks, Scores

FLOAT_BYTES = 4
_MOMENTS = 2
"""Numbers that AdamW keeps for each of a parameter."""
_COPIES_IN_LOSS = 3
"""Tensors of a part's rows and units that the loss works with and lets go of: predictions, targets,
and their products."""
_SHAPES = torch.device("meta")


@dataclass(frozen=True)
class StepSize:
    """What one rank's training step is made of, in bytes, in float32."""

    parameters: int
    """A number and not bytes."""
    weights: int
    """Parameters and buffers."""
    gradients: int
    optimizer: int
    """One number per parameter that is trained step by step, and AdamW's two."""
    largest: int
    """The largest parameter: where gradients are added to others (of other parts), or copied to
    where ranks reduce them, there are for a moment two of it."""
    windows: int
    parts: int
    """A rank's share of a batch, and the accumulated parts that it is computed in."""
    share: int
    """Bytes of that share, context included, as it lies on disk."""
    normalisation: int
    """Mean and standard deviation per scan and voxel."""
    vectors: int = 0
    """Of each TR of a film, those that are made once; see training/made_once.py."""
    elsewhere: int = 0
    """Weights that other workers have, who share out the head with this one."""
    activations: int = 0
    """What the forward pass and the loss keep for the backward pass of one part; 0 where it was not
    measured."""

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, optimizer and normalisation, of all workers."""
        of_others = (1 + _MOMENTS) * self.elsewhere
        return self.weights + self.optimizer + of_others + self.normalisation


def step_size(job: TrainJob, shapes: Shapes, n_scans: int, ranks: int, window: int) -> StepSize:
    """Return what a training step holds but for its activations; it takes no time.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    shapes : Shapes
        What its model is built for.
    n_scans : int
        Scans that are z-scored.
    ranks : int
        Workers that share a batch.
    window : int
        BOLD TRs of a window.
    """
    model = _shapes_of_model(job, shapes)
    parameters = dict(model.named_parameters())
    held = {name: parameter.nbytes for name, parameter in parameters.items()}
    if is_shared_out(model, job, shapes, ranks):
        held |= {name: math.ceil(held[name] / ranks) for name in model.head_units}
    sizes = [held[name] for name, each in parameters.items() if each.requires_grad]
    windows = math.ceil(batch_windows(job.train.batch_trs, window) / ranks)
    trs = _rows_of_window(job, shapes, window)
    return StepSize(
        parameters=sum(parameter.numel() for parameter in parameters.values()),
        weights=sum(held.values()) + sum(buffer.nbytes for buffer in model.buffers()),
        gradients=sum(sizes),
        optimizer=_MOMENTS * sum(sizes),
        largest=max(sizes, default=0),
        windows=windows,
        parts=job.train.accumulation,
        share=windows * sum(trs[name] * kind.nbytes for name, kind in shapes.values.items()),
        normalisation=2 * FLOAT_BYTES * n_scans * max(shapes.units.values()),
        vectors=vector_bytes(model, shapes),
        elsewhere=sum(each.nbytes for each in parameters.values()) - sum(held.values()),
    )


def measure_activations(job: TrainJob, shapes: Shapes, ranks: int, window: int) -> int:
    """Return the bytes that one part of a rank's batch keeps for its backward pass, in float32.

    The first call takes a second or two: PyTorch loads its compiler to tell some shapes. A model
    that is fitted at once keeps nothing.

    Parameters
    ----------
    job, shapes, ranks, window
        As :func:`step_size` takes them.
    """
    if job.model.fitted:
        return 0
    share = ranks * job.train.accumulation
    n = math.ceil(batch_windows(job.train.batch_trs, window) / share)
    first, trs = np.zeros(n, np.int32), _rows_of_window(job, shapes, window)
    with _SHAPES:
        rows = {
            name: torch.empty((n, trs[name], *kind.shape), dtype=getattr(torch, kind.dtype))
            for name, kind in shapes.values.items()
        }
        exists = torch.ones(n, max(trs.values()), dtype=torch.bool)
    batch = Batch(rows, exists, Windows(first, first, np.full(n, window, np.int32)))
    # Of the subject with most units: the batch holds as many of each row.
    widest = max(shapes.units, key=lambda name: shapes.units[name])
    ones_SV = np.ones((1, shapes.units[widest]), np.float32)
    normalisation = Normalisation((ScanKey(widest, ""),), ones_SV, ones_SV, ones_SV.astype(bool))
    model = _shapes_of_model(job, shapes)
    return kept_by_step(job, model, shapes, batch, normalisation, _SHAPES)


def _rows_of_window(job: TrainJob, shapes: Shapes, window: int) -> dict[str, int]:
    """Return the rows that a window has of each part, its context among them, and of BOLD."""
    context = job.model.context_trs(shapes.tr_seconds)
    return {name: window + context * (name != "bold") for name in shapes.values}


def kept_by_step(
    job: TrainJob,
    model: Predictor,
    shapes: Shapes,
    batch: Batch,
    normalisation: Normalisation,
    device: torch.device,
) -> int:
    """Run forward pass, loss and backward pass of a batch; return the bytes kept between them.

    Tensors that share their memory are counted once, parameters not at all. What the loss works
    with while all of them are there comes on top.
    """
    at_once = job.train.model_copy(update={"accumulation": 1, "precision": "fp32"})
    scores = Scores(normalisation, shapes, job.model_copy(update={"train": at_once}), device)
    ranks = Ranks(model, 1, device, job.model.batch_norm == "frozen")
    with _kept(model) as kept:
        scores.backward(ranks, batch, batch.windows.n_trs, LossTotals({}, device))
    return sum(kept.values()) + _COPIES_IN_LOSS * FLOAT_BYTES * batch.values["bold"].numel()


@contextmanager
def _kept(model: nn.Module) -> Iterator[dict[int, int]]:
    kept = {parameter.untyped_storage()._cdata: 0 for parameter in model.parameters()}
    alive = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in kept:
            kept[storage._cdata] = storage.nbytes()
            alive.append(storage)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _shapes_of_model(job: TrainJob, shapes: Shapes) -> Predictor:
    """Make a run's model of shapes alone, without memory."""
    with unfilled():
        model = build_predictor(job.model, shapes, job.packages)
    if job.train.freeze == "trunk":
        freeze_trunk(model)
    return model
