"""How large a model and its training step are, counted without allocating anything.

Shapes: B rows (TRs) of one backward pass of one rank, P parameters, V voxels, S scans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from giblet_ray.config import TrainJob
from giblet_ray.dataset.schema import ValueType
from giblet_ray.models.build import build_encoder
from giblet_ray.models.encoder import MultimodalEncoder

FLOAT_BYTES = 4
_LAST = "bottleneck_to_voxels.4"
_LOSS_COPIES = 6
"""Arrays (B, V) that the loss keeps for its gradient: BOLD and prediction, each as they are and
about their means, their difference, and the BOLD as read."""


@dataclass(frozen=True)
class StepSize:
    """What one rank's training step is made of, in bytes, in float32.

    Attributes
    ----------
    parameters : int
        P, a number and not bytes.
    weights : int
        Parameters and BatchNorm statistics.
    gradients, optimizer : int
        One number per parameter, and AdamW's two.
    largest : int
        The largest parameter: where gradients are added to others (of other parts), or copied to
        where ranks reduce them, there are for a moment two of it.
    activations : int
        What the forward pass and the loss keep for the backward pass of one accumulated part.
    rows, parts : int
        Rows that a rank computes at a time, and accumulated parts of its share of a batch.
    share : int
        Bytes of a rank's share of a batch, as it lies on disk.
    normalisation : int
        Mean and standard deviation per scan and voxel.
    """

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    largest: int
    activations: int
    rows: int
    parts: int
    share: int
    normalisation: int

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights, optimizer and normalisation."""
        return self.weights + self.optimizer + self.normalisation


def step_size(job: TrainJob, values: Mapping[str, ValueType], n_scans: int, ranks: int) -> StepSize:
    """Count what a training step holds; the model is made of shapes alone, without memory.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    values : mapping of str to ValueType
        What one row of a batch holds, ``bold`` included.
    n_scans : int
        Scans that are z-scored.
    ranks : int
        Workers that share a batch.
    """
    (n_voxels,) = values["bold"].shape
    windows = math.ceil(job.train.batch_size / ranks)
    parts = job.train.accumulation
    rows = math.ceil(windows / parts) * job.data.window
    with torch.device("meta"), _Undrawn():
        model = build_encoder(job.model, job.data, values, n_voxels)
    n_parameters = model.get_parameter_count()["total"]
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    voxels = FLOAT_BYTES * rows * n_voxels
    return StepSize(
        parameters=n_parameters,
        weights=FLOAT_BYTES * n_parameters + buffers,
        gradients=FLOAT_BYTES * n_parameters,
        optimizer=2 * FLOAT_BYTES * n_parameters,
        largest=FLOAT_BYTES * max(each.numel() for each in model.parameters()),
        activations=rows * kept_per_row(model, _audio_frames(values)) + _LOSS_COPIES * voxels,
        rows=rows,
        parts=parts,
        share=windows * job.data.window * sum(kind.nbytes for kind in values.values()),
        normalisation=2 * FLOAT_BYTES * n_scans * n_voxels,
    )


def _audio_frames(values: Mapping[str, ValueType]) -> int:
    return next((values[part].shape[1] for part in ("codes", "mel") if part in values), 0)


def kept_per_row(model: MultimodalEncoder, audio_frames: int) -> int:
    """Return the bytes that the forward pass of one row keeps for the backward pass, in float32.

    After a convolution or linear layer, BatchNorm keeps what comes in and ReLU what goes out;
    dropout keeps its mask, and the layer after it what dropout gives. Inputs are kept too.

    Parameters
    ----------
    model : MultimodalEncoder
        Of which only the layers are looked at.
    audio_frames : int
        Frames of audio per TR.
    """
    numbers = masks = 0
    height, width = model.video_height, model.video_width
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            if not numbers:
                numbers += layer.in_channels * height * width
            height, width = math.ceil(height / 2), math.ceil(width / 2)
            numbers += 2 * layer.out_channels * height * width
        elif isinstance(layer, nn.Conv1d):
            numbers += 2 * layer.out_channels * audio_frames
        elif isinstance(layer, nn.Linear) and name != _LAST:
            numbers += 3 * layer.out_features
            masks += layer.out_features
    if model.audio_encoder is not None:
        channels = model.audio_mels
        if model.use_encodec:
            channels = model.audio_codebooks * model.embed_dim
            numbers += 2 * model.audio_codebooks * audio_frames  # codes, in eight bytes each
        numbers += channels * audio_frames
    if model.text_encoder is not None:
        numbers += model.text_dim
    return FLOAT_BYTES * numbers + masks


class _Undrawn(TorchFunctionMode):
    """Makes embeddings without drawing their weights: PyTorch would load its compiler for it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)
