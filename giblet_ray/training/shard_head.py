"""Whether the workers share out a model's head, each with some of its units: from bytes."""

from __future__ import annotations

from giblet_ray.config import TrainJob
from giblet_ray.errors import InputError
from giblet_ray.models.predictor import Predictor, Shapes
from giblet_ray.models.shards import UnitShards
from giblet_ray.training.config import LossConfig

_FLOAT_BYTES = 4
_BUCKET_BYTES = 25 * 2**20
"""DistributedDataParallel's bucket: of what is smaller, the number of messages decides, not their
bytes, and shards send more messages."""


def share_out_head(
    model: Predictor, job: TrainJob, shapes: Shapes, rank: int, world_size: int
) -> UnitShards | None:
    """Let each worker keep its units of a model's head, where that is asked for, or pays.

    Parameters
    ----------
    model : Predictor
        With the same weights on every rank; those of its head that are another rank's go.
    job : TrainJob
        ``model.shard_head`` and ``train.batch_trs`` decide.
    shapes : Shapes
        What the model is built for.
    rank, world_size : int
        This worker's number, and how many there are.

    Returns
    -------
    UnitShards or None
        None where every worker has all units.

    Raises
    ------
    InputError
        If it is asked for, and the loss is not one whose units count apart.
    """
    if not is_shared_out(model, job, shapes, world_size):
        return None
    shards = UnitShards(rank, world_size, tuple(shapes.units.values()))
    model.share_out_units(shards)
    return shards


def is_shared_out(model: Predictor, job: TrainJob, shapes: Shapes, world_size: int) -> bool:
    """Whether so many workers share out a model's head; see :func:`share_out_head`."""
    wanted = job.model.sharding
    if wanted == "off" or world_size == 1 or not model.head_units:
        return False
    if isinstance(job.loss, LossConfig):
        return wanted == "on" or saved_bytes(model, job, shapes, world_size) >= _BUCKET_BYTES
    if wanted == "on":
        raise InputError(
            f"--model.shard_head on: loss {job.loss.kind} sees all units of a row at once; auto "
            "and off are accepted"
        )
    return False


def saved_bytes(model: Predictor, job: TrainJob, shapes: Shapes, world_size: int) -> float:
    """Return the bytes by which shards lessen what a worker sends in a step.

    ::

        all units on every worker   2 (R - 1)/R of the head's gradients
        shared out                    (R - 1)/R of its rows' hidden numbers, for each other worker's
                                      rows their gradients, and its rows' BOLD

    Parameters
    ----------
    model, job, shapes, world_size
        As :func:`share_out_head` takes them, before it has changed the model.
    """
    parameters = dict(model.named_parameters())
    head = [parameters[name] for name in model.head_units]
    hidden = max(each.shape[1] for each in head if each.dim() == 2)
    rows = job.train.batch_trs
    gradients = 2 * sum(each.numel() for each in head if each.requires_grad) * _FLOAT_BYTES
    to_others = 2 * rows * hidden * _FLOAT_BYTES
    bold = rows / world_size * shapes.values["bold"].nbytes
    return (world_size - 1) / world_size * (gradients - to_others - bold)
