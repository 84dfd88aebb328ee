"""Films that lack a part which others have: one trains and is judged by what it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalTraining

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest
from giblet_ray.errors import InputError
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.partition import plan_partition
from giblet_ray.training.data import plan_data

N_TRS = {"spoken": 117, "silent": 90, "other": 60}


def take(folder: Path, films: tuple[str, ...], *parts: str) -> None:
    """Take parts of films out of a manifest."""
    content = Dataset.open(str(folder)).manifest.model_dump(mode="json")
    for stimulus in content["stimuli"]:
        for part in parts if stimulus["name"] in films else ():
            del stimulus["phases"][0]["shards"][part]
    write_manifest(Storage.at(str(folder)), Manifest.model_validate(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable) -> Path:
    """A data set of three films, one of them with text."""
    folder = tmp_path_factory.mktemp("lacking")
    dataset_writer(folder, N_TRS, ("01", "02"))
    take(folder, ("silent", "other"), "text")
    return folder


def job_of(folder: Path, model: dict[str, Any], modalities: str = "audio,text") -> TrainJob:
    settings: dict[str, Any] = {
        "dataset": str(folder),
        "data": {"modalities": tuple(modalities.split(","))},
        "model": model,
        "train": {} if model.get("kind") else {"epochs": 2},
    }
    return TrainJob.model_validate(settings)


MODELS: dict[str, dict[str, Any]] = {
    "ridge": {"kind": "ridge", "solver": "ridge"},
    "components": {"audio_codebooks": 4},
    "encoders": {
        **{"inputs": "encoders", "audio_codebooks": 4, "audio_features": 16, "text_features": 16},
        **{"embed_dim": 8, "trunk_dims": (32,), "bottleneck_dim": 16, "head_dim": 32},
    },
    "dropout": {"audio_codebooks": 4, "modality_dropout": 0.3},
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_film_without_text_trains_and_is_predicted_without(
    folder: Path, dataset_writer: Callable, tmp_path: Path, kind: str
) -> None:
    job = job_of(folder, MODELS[kind])
    LocalTraining(job).train(tmp_path / "run")
    encoder = Encoder.load(str(tmp_path / "run"))
    assert "text" in encoder.model.may_lack
    dataset = Dataset.open(str(folder))
    assert plan_data(job, dataset).lacking == {"text": ("silent", "other")}
    opened = open_run(str(tmp_path / "run"))
    with pytest.raises(
        InputError, match=r"subsets: stimulus silent has no text/.*; product or perm"
    ):
        plan_partition("subsets", [opened])
    assert "no fit" in plan_partition("permuted", [opened])
    head = encoder.subject_index("01")
    found = encoder.predict_bold(dataset, Span("silent", 10, 60), head)
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0

    # What lies in the place of the text, of a film that has none, is not looked at.
    context = encoder.model.context_trs
    n = context + 40
    read = encoder.read_stimulus(dataset, Span("silent", 0, n))
    assert list(read) == ["codes"]
    inputs = {"codes": torch.from_numpy(read["codes"][None])}
    alone = encoder.shapes.inputs(inputs)
    exists, subject = torch.ones(1, n, dtype=torch.bool), torch.tensor([head])
    with torch.inference_mode():
        wanted = encoder.model(alone, exists, subject)[head]
        for noise in (torch.zeros(1, n, 1024), torch.randn(1, n, 1024)):
            given = {**alone, "text": noise}
            lacks = {"text": torch.tensor([True])}
            same = encoder.model(given, exists, subject, lacks)[head]
            torch.testing.assert_close(same, wanted)
            assert not torch.allclose(encoder.model(given, exists, subject)[head], wanted)


@pytest.mark.parametrize("kind", ["ridge", "components"])
def test_what_is_fitted_of_a_part_is_fitted_on_films_that_have_it(
    folder: Path, dataset_writer: Callable, tmp_path: Path, kind: str
) -> None:
    """As if the film that lacks it were not there: its mean and its components."""
    unseen = tuple((who, film) for who in ("01", "02") for film in ("silent", "other"))
    dataset_writer(tmp_path / "one", N_TRS, ("01", "02"), unseen=unseen)
    runs = {}
    for name, where in (("both", folder), ("one", tmp_path / "one")):
        LocalTraining(job_of(where, MODELS[kind])).train(tmp_path / name)
        state = Encoder.load(str(tmp_path / name)).model.state_dict()
        runs[name] = {key: value for key, value in state.items() if "text" in key}
    assert runs["both"]
    for key, value in runs["one"].items():
        if "mean" in key or "components" in key or "std" in key:
            torch.testing.assert_close(runs["both"][key], value, rtol=1e-4, atol=1e-5)


def test_films_without_anything_and_parts_that_no_film_has_are_one_line(
    folder: Path, dataset_writer: Callable, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"stimulus .* has none of text; add a modality"):
        plan_data(job_of(folder, MODELS["components"], "text"))
    dataset_writer(tmp_path, N_TRS, ("01",))
    take(tmp_path, tuple(N_TRS), "text")
    with pytest.raises(InputError, match=r"no stimulus that trains has text/; leave out"):
        plan_data(job_of(tmp_path, MODELS["components"]))


@pytest.mark.parametrize("inputs", ["encoders", "vectors", "components"])
def test_batch_norm_of_encoders_is_given_no_film_that_lacks_a_part(
    folder: Path, inputs: str
) -> None:
    model = {**MODELS["encoders"], "norm": "batch", "inputs": inputs}
    if inputs == "components":  # which have no encoders
        assert plan_data(job_of(folder, model)).lacking
        return
    with pytest.raises(InputError, match=r"has no text/, and .*, such as .* --model.norm layer"):
        plan_data(job_of(folder, model))


def test_a_part_of_held_out_films_alone_is_refused(folder: Path) -> None:
    """Of which nothing would be learned, and which would then be read."""
    films = {"val_stimuli": ("other",), "test_stimuli": ("spoken",)}
    data = {"modalities": ("audio", "text"), "split": {"kind": "stimuli", **films}}
    settings = {"dataset": str(folder), "data": data, "model": MODELS["components"]}
    with pytest.raises(InputError, match=r"no stimulus that trains has text/; .*\(--data.split\)"):
        plan_data(TrainJob.model_validate(settings))
