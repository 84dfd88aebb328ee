"""What a sweep searches unless told, and what it may not search: settings that the model has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.tuning.live import with_space
from giblet_ray.tuning.plan import plan_sweep
from giblet_ray.tuning.space import parse_space

HEARD = {
    "encoders": {"embed_dim", "audio_codebooks", "kernel_sizes"},
    "vectors": {"embed_dim", "audio_codebooks", "kernel_sizes"},
    "components": {"audio_codebooks"},
}
REMEMBERED: dict[str, set[str]] = {
    "none": set(),
    "hrf": {"filters", "context_seconds", "head_weight_decay"},
    "conv": {"memory_layers", "context_seconds", "head_weight_decay"},
    "transformer": {"memory_layers", "context_seconds", "head_weight_decay"},
}


def searched(job: TuneJob) -> dict[str, Any]:
    """The values of each setting, by its own name; what is searched can be planned."""
    dataset = Dataset.open(job.dataset)
    job = with_space(job, dataset)
    plan_sweep(job, parse_space(job.sweep.space or {}, job), dataset)
    return {name.partition(".")[2]: values for name, values in (job.sweep.space or {}).items()}


@pytest.mark.parametrize("memory", REMEMBERED)
@pytest.mark.parametrize("inputs", HEARD)
def test_unless_told_a_sweep_searches_what_the_model_has(
    tune_job: Callable[..., TuneJob], memory: str, inputs: str
) -> None:
    model = {"norm": "layer", "memory": memory, "inputs": inputs}
    assert searched(tune_job({}, model=model)).keys() == HEARD[inputs] | REMEMBERED[memory]


def test_unless_told_a_sweep_searches_what_data_and_context_allow(
    tune_job: Callable[..., TuneJob],
) -> None:
    model = {"memory": "hrf", "inputs": "encoders", "code_embedding": "codec", "norm": "layer"}
    found = searched(tune_job({}, model={**model, "context_seconds": 12.0}))
    assert found["audio_codebooks"] == [2, 4]  # of 4
    assert found["context_seconds"] == [10.0, 12.0]
    assert "embed_dim" not in found  # EnCodec's vectors are as long as they are
    mute = {"modalities": ["video"]}
    assert searched(tune_job({}, model=model, data=mute)).keys() == REMEMBERED["hrf"]


@pytest.mark.parametrize(
    ("model", "data"),
    [({"memory": "none"}, {"modalities": ["video"]}), ({"kind": "ridge"}, {})],
)
def test_without_anything_to_search_a_space_is_asked_for(
    tune_job: Callable[..., TuneJob], model: dict[str, Any], data: dict[str, Any]
) -> None:
    job = TuneJob(dataset=tune_job({}).dataset, model=model, data=data)
    with pytest.raises(InputError, match=r"--sweep\.space is missing: .* has neither; name"):
        with_space(job, Dataset.open(job.dataset))


@pytest.mark.parametrize(
    ("model", "data", "name", "why"),
    [
        ({"inputs": "components"}, {}, "model.embed_dim", "model.inputs components"),
        ({"inputs": "components"}, {}, "model.kernel_sizes", "model.inputs components"),
        ({"memory": "none"}, {}, "model.filters", "model.memory none"),
        ({"memory": "conv", "norm": "layer"}, {}, "model.filters", "model.memory conv"),
        ({"memory": "hrf", "norm": "layer"}, {}, "model.memory_layers", "model.memory hrf"),
        ({"head": "linear"}, {}, "model.head_dim", "model.head linear"),
        (
            {},
            {"modalities": ["text"]},
            "model.audio_codebooks",
            "data.modalities without EnCodec codes",
        ),
    ],
)
def test_what_the_model_does_not_have_is_not_searched(
    tune_job: Callable[..., TuneJob],
    model: dict[str, Any],
    data: dict[str, Any],
    name: str,
    why: str,
) -> None:
    values: list[Any] = [[3], [3, 5]] if name == "model.kernel_sizes" else [1, 2]
    job = tune_job({"space": {name: values, "optimizer.lr": [1e-3, 1e-2]}}, model=model, data=data)
    space = parse_space(job.sweep.space or {}, job)
    with pytest.raises(InputError) as error:
        plan_sweep(job, space, Dataset.open(job.dataset))
    assert str(error.value) == f"--sweep.space {name}: means nothing with {why}; leave it out"


def test_what_some_trial_has_is_searched(tune_job: Callable[..., TuneJob]) -> None:
    space = {"model.memory": ["none", "hrf"], "model.filters": [1, 2], "model.heads": ["subject"]}
    job = tune_job({"space": space}, model={"norm": "layer"})
    plan_sweep(job, parse_space(space, job), Dataset.open(job.dataset))
