"""What a worker needs of its machine and of its GPU, from what its step is made of.

::

    bytes |            activations, and gradients as they are computed
          |            .---.    .---.    .---.
          |      .-----'   '----'   '----'   '--   optimizer (after the first step)
          |  .---'  weights, batches, libraries
          +--------------------------------------> steps
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from giblet_ray.training.config import CHECKPOINTS_UNDER_WAY

if TYPE_CHECKING:
    from giblet_ray.preflight.size import StepSize

LIBRARY_BYTES = 450 * 10**6
"""Private memory of a worker for Python, Ray, MLflow and PyTorch, once it computes. Measured."""
_CUDA_BYTES = 10**9
"""An assumption: what CUDA takes, of the host for its libraries, of a GPU for its context."""
_BATCH_BUFFERS = 5
"""Shares of a batch that a loader holds; see dataset/loader.py."""


@dataclass(frozen=True)
class Need:
    """Bytes by what they are for."""

    parts: dict[str, int]
    """What is surely held at one moment, by what for, in words."""
    estimates: dict[str, int] = field(default_factory=dict)
    """What may come on top: an upper bound, or an assumption."""

    @property
    def sure(self) -> int:
        """Bytes without which nothing goes."""
        return sum(self.parts.values())

    @property
    def total(self) -> int:
        """All together."""
        return self.sure + sum(self.estimates.values())

    def __str__(self) -> str:
        return " + ".join(
            f"{name} {gigabytes(n)}" for name, n in (self.parts | self.estimates).items()
        )


def host_need(
    size: StepSize,
    ranks: int,
    use_gpu: bool,
    streamed: int = 0,
    made_once: int = 0,
    validated: int = 0,
) -> Need:
    """Return what a worker needs of its machine's memory for itself.

    Blocks of the object store come on top, once for all workers of a node.

    Parameters
    ----------
    size : StepSize
        Of one rank's step.
    ranks : int
        Workers that share a batch.
    use_gpu : bool
        Train on a GPU: then the machine holds the weights while they are made and saved.
    streamed : int
        Bytes of rows that wait in the worker for their batch.
    made_once : int
        Bytes of vectors that it keeps: where it trains on a GPU, there.
    validated : int
        Bytes of the validation rows that it keeps for metrics of a user's own.
    """
    held = {"weights": size.weights}
    # Of what all workers have alike, rank 0 writes; of a head that they share out, each its units.
    writers = 1 if size.elsewhere else ranks
    copies = CHECKPOINTS_UNDER_WAY * (size.weights + size.optimizer)
    estimates = {"checkpoints under way": copies // writers}
    if use_gpu:
        estimates["CUDA (assumed)"] = _CUDA_BYTES
    else:
        held["gradients"] = size.gradients + _second_gradient(size, ranks)
        held["optimizer"] = size.optimizer
        if made_once:
            held["films' vectors"] = made_once
        if size.activations:
            estimates["activations"] = size.activations
    rings = 2 if size.vectors else 1  # of the loader that rows came from, and of the rest's
    held["batches"] = rings * _BATCH_BUFFERS * size.share + size.normalisation
    if streamed:
        held["streamed rows"] = streamed
    if validated:
        held["rows for --train.metrics"] = validated
    return Need({**held, "libraries": LIBRARY_BYTES}, estimates)


def gpu_need(size: StepSize, ranks: int, bf16: bool, resident_bytes: int) -> Need:
    """Return what a worker needs of its GPU's memory.

    Parameters
    ----------
    size, ranks
        As :func:`host_need` takes them.
    bf16 : bool
        The forward pass computes in bfloat16: it is assumed to keep half the activations, and a
        copy of the weights.
    resident_bytes : int
        Data that lives on the GPU.
    """
    held = {
        "weights": size.weights,
        "gradients": size.gradients + _second_gradient(size, ranks),
        "optimizer": size.optimizer,
        "data": resident_bytes + 2 * size.share + size.normalisation,
    }
    estimates = {"CUDA (assumed)": _CUDA_BYTES}
    if size.activations and bf16:
        estimates["activations (assumed of bfloat16)"] = size.activations // 2 + size.weights // 2
    elif size.activations:
        estimates["activations"] = size.activations
    return Need(held, estimates)


def _second_gradient(size: StepSize, ranks: int) -> int:
    return size.largest if ranks > 1 or size.parts > 1 else 0


def gigabytes(n_bytes: float) -> str:
    """Return bytes as a person reads them: 61.20 GB, 1.4 MB, 3.2 kB."""
    if n_bytes >= 1e8:
        return f"{n_bytes / 1e9:,.2f} GB"
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"
