"""Which settings the model that is trained has: what a sweep searches unless told, and what it
may not search."""

from __future__ import annotations

import contextlib
from typing import Any

from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.config import MultimodalConfig
from giblet_ray.training.data import encoders_of
from giblet_ray.tuning.space import Space, grid, setting, with_settings

DEFAULT_SPACE: dict[str, list[Any]] = {
    "model.embed_dim": [16, 32, 64, 128],
    "model.audio_codebooks": [2, 4, 8],
    "model.kernel_sizes": [[3, 5, 7], [3, 7, 15], [5, 11, 21], [7, 15, 31]],
    "model.filters": [1, 2, 3],
    "model.memory_layers": [1, 2, 3],
    "model.context_seconds": [10.0, 15.0, 20.0],
    "optimizer.head_weight_decay": [1.0, 5.0, 30.0, 150.0],
}
"""What a sweep searches unless told, as far as the model has it: how finely, in how much detail and
at which time scales it hears, and how, how long and how freely it remembers."""

_DECIDING = (
    *("data.modalities", "data.audio", "model.inputs", "model.code_embedding"),
    *("model.memory", "model.head", "model.heads", "model.trunk_dims", "model.norm"),
)
"""Settings that decide which others a model has."""


def with_space(job: TuneJob, dataset: Dataset) -> TuneJob:
    """Return a job that says what it searches: by default, what model and data set have.

    Raises
    ------
    InputError
        If the job has no space, and the model has nothing of the default's.
    """
    if job.sweep.space is not None:
        return job
    encoders = encoders_of(job, dataset)
    unused = job.model.unused(encoders)
    has = MultimodalConfig.model_fields if isinstance(job.model, MultimodalConfig) else ()
    live = {f"model.{name}" for name in has if name not in unused}
    if "model.context_seconds" in live:
        live.add("optimizer.head_weight_decay")
    space = {name: values for name, values in DEFAULT_SPACE.items() if name in live}
    if (name := "model.context_seconds") in space:
        longest = setting(job, name)
        space[name] = [each for each in space[name] if each < longest] + [longest]
    if (name := "model.audio_codebooks") in space:
        held = min(dataset.value_type(part).shape[0] for part in job.model.leading_of(encoders))
        space[name] = [k for k in space[name] if k <= held] or [setting(job, name)]
    if not space:
        raise InputError(
            f"--sweep.space is missing: the default is about how EnCodec codes are heard and what "
            f"memory is made of, and this model (--model.kind {job.model.kind}) has neither; name "
            "settings, such as optimizer.lr=1e-4..1e-2:log"
        )
    return job.model_copy(update={"sweep": job.sweep.model_copy(update={"space": space})})


def check_live(job: TrainJob, space: Space, dataset: Dataset) -> None:
    """Make sure that every setting that is searched means something in some trial.

    Raises
    ------
    InputError
        If one does not.
    """
    deciding = {name: domain for name, domain in space.items() if name in _DECIDING}
    found: list[dict[str, str]] = []
    for settings in grid(deciding, 2):
        with contextlib.suppress(InputError):  # a trial that contradicts itself fails by itself
            trial = with_settings(job, settings)
            found.append(trial.model.unused(encoders_of(trial, dataset)))
    for name in space:
        group, _, own = name.partition(".")
        if group == "model" and found and all(own in unused for unused in found):
            raise InputError(
                f"--sweep.space {name}: means nothing with {found[0][own]}; leave it out"
            )
