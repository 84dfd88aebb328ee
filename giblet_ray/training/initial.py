"""What a training begins with, where that is not random: all but the heads of another run's model.

A person of whom there are minutes of data is given a head of their own on a trunk that others have
trained; ``train.freeze trunk`` leaves that as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from giblet_ray.checkpoint.record import Initial, Record, RunRecord
from giblet_ray.checkpoint.store import Checkpoint, find_checkpoint
from giblet_ray.config import TrainJob
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.settings import flat_settings

if TYPE_CHECKING:
    from giblet_ray.models.predictor import Predictor

_OF_THE_HEADS = ("head", "shard_head", "subject_dropout", "dropout", "batch_norm")
"""Settings of a model that its trunk does not depend on: those whose names begin so."""


def find_initial(job: TrainJob, data: DataView) -> Initial | None:
    """Find the checkpoint that a training begins with, and make sure that its trunk fits.

    Parameters
    ----------
    job : TrainJob
        Its ``init_from`` is a run's folder or URI, whose best checkpoint is taken, or a
        checkpoint's.
    data : DataView
        What is trained on.

    Returns
    -------
    Initial or None
        None where weights are random.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it has learned from other parts, of other shapes, made
        another way, at another TR or lag, with other settings of the model or on another split.
    """
    if job.init_from is None:
        return None
    if job.model.fitted:
        raise InputError(f"--init-from {job.init_from}: {job.model.kind} is fitted at once, anew")
    checkpoint = _opened(job.init_from)
    for what, found, wanted in _differences(checkpoint.record, job, data):
        raise InputError(
            f"--init-from {job.init_from}: {what} is {wanted} there, and {found} here; a trunk is "
            "taken with what it has learned from"
        )
    return Initial(checkpoint=checkpoint.location, weights=checkpoint.record.weights_checksum)


def take_trunk(model: Predictor, run: RunRecord) -> None:
    """Give a model the weights that its run begins with, all but those of its heads.

    Raises
    ------
    InputError
        If they cannot be read, have changed since the run was begun, or have other shapes.
    """
    if run.initial is None:
        return
    # Here, for what plans a training does without.
    from giblet_ray.checkpoint.pieces import load_weights

    checkpoint = _opened(run.initial.checkpoint)
    where = f"--init-from {run.config['init_from']}"
    if checkpoint.record.weights_checksum != run.initial.weights:
        raise InputError(f"{where}: {checkpoint.location} has changed since this run was begun")
    with checkpoint.files(checkpoint.record.weight_files) as folder:
        weights = load_weights(folder, checkpoint.record)
        trunk = {name: of for name, of in weights.items() if not model.is_of_heads(name)}
        own = {name: of for name, of in model.state_dict().items() if not model.is_of_heads(name)}
        for name in {**own, **trunk}:
            shapes = [tuple(of[name].shape) if name in of else "none" for of in (trunk, own)]
            if shapes[0] != shapes[1]:
                raise InputError(f"{where}: {name} is {shapes[0]} there, and {shapes[1]} here")
        model.load_state_dict(trunk, strict=False)


def freeze_trunk(model: Predictor) -> None:
    """Let no step change what is not of a model's heads.

    Raises
    ------
    InputError
        If the model does not say which of its weights are heads.
    """
    if not model.head_modules:
        raise InputError(
            f"--train.freeze trunk: {type(model).__name__} does not say which of its modules are "
            "heads (Predictor.head_modules); none is accepted"
        )
    for name, parameter in model.named_parameters():
        if not model.is_of_heads(name):
            parameter.requires_grad_(False)


def _opened(location: str) -> Checkpoint:
    try:
        return find_checkpoint(location)
    except InputError as error:
        raise InputError(f"--init-from {error}") from error


def _differences(record: Record, job: TrainJob, data: DataView) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a trunk depends on that is not as it was: what, found here, and there."""
    for what, here, there in _compared(record, job, data):
        if here != there:
            yield what, here, there


def _compared(record: Record, job: TrainJob, data: DataView) -> Iterator[tuple[str, Any, Any]]:
    manifest, trained = data.dataset.manifest, record.dataset
    parts = ", ".join(data.selection.parts), ", ".join(trained.encoders)
    yield "the parts that are read (--data.modalities)", *parts
    yield "the TR", manifest.tr_seconds, trained.tr_seconds
    yield "the lag in TRs (--data.lag_seconds)", data.lag_trs, record.lag_trs
    for part, encoder in trained.encoders.items():
        made = manifest.parts[part]
        yield f"what reads {part}/", made.encoder, encoder
        yield f"a row of {part}/", data.values[part], trained.values[part]
        yield f"what {part}/ was made with", made.made_with, trained.made_with.get(part)
    own = flat_settings(job.model.model_dump(mode="json"))
    others = flat_settings(record.config["model"])
    for name in {**others, **own}:
        if not name.startswith(_OF_THE_HEADS):
            yield f"--model.{name}", own.get(name), others.get(name)
    if trained.checksum == manifest.checksum:  # what trained the trunk must judge nothing here
        split = job.data.split.model_dump(mode="json", exclude={"same"})
        of_trunk = {**record.config["data"]["split"]}
        del of_trunk["same"]
        yield "--data.split of the same data", split, of_trunk
        yield "what shows the same (--data.split.same)", data.same, record.same
