"""An array of a user's own is trained on as the part that it could have been."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import stimulus_labels, stimulus_shard
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.stored import StoredPart
from giblet_ray.dataset.writer import write_manifest, write_shard
from giblet_ray.errors import InputError
from giblet_ray.parts.array import Array
from giblet_ray.parts.part import FilmFiles
from giblet_ray.training.data import plan_data


@pytest.fixture(scope="module")
def with_array(
    arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset],
    tmp_path_factory: pytest.TempPathFactory,
) -> Dataset:
    """The small data set, and a part beside that is made of an array of its own text rows."""
    arrays, dataset = arrays_and_dataset
    folder = tmp_path_factory.mktemp("array")
    shutil.copytree(dataset.storage.root, folder / "data")
    storage = Dataset.open(str(folder / "data")).storage
    manifest, part = dataset.manifest, Array("said")
    stimuli = []
    for stimulus in manifest.stimuli:
        np.save(folder / "said.npy", arrays[stimulus_shard("text", stimulus.name)])
        film = FilmFiles(
            name=stimulus.name,
            n_trs=stimulus.n_trs,
            tr_seconds=manifest.tr_seconds,
            seconds=stimulus.n_trs * manifest.tr_seconds,
            files={"said": str(folder / "said.npy")},
        )
        path, labels = stimulus_shard("said", stimulus.name), stimulus_labels("said", stimulus.name)
        values = part.make(film).values
        shard = write_shard(storage, path, values, manifest.row_group_trs, labels)
        (phase,) = stimulus.phases
        phase = phase.model_copy(update={"shards": {**phase.shards, "said": shard}})
        stimuli.append(stimulus.model_copy(update={"phases": (phase,)}))
    stored = StoredPart(
        kind=part.kind, modality="said", encoder=part.encoder, value=manifest.parts["text"].value
    )
    update = {"stimuli": tuple(stimuli), "parts": {**manifest.parts, "said": stored}}
    write_manifest(storage, manifest.model_copy(update=update))
    return Dataset.open(str(folder / "data"))


@pytest.fixture(scope="module")
def job_on(with_array: Dataset, tiny_model: dict[str, Any]) -> Any:
    """Make a job that trains on some modalities of that data set."""

    def job(*modalities: str) -> TrainJob:
        return TrainJob(
            dataset=with_array.storage.location,
            data={"modalities": modalities},
            model={**tiny_model, "vector_features": tiny_model["text_features"]},
            train={"epochs": 2, "batch_trs": 16},
        )

    return job


@pytest.mark.parametrize("others", [(), ("video", "audio")])
def test_the_text_s_own_rows_as_an_array_train_to_the_same_weights(
    job_on: Any, train_locally: Any, tmp_path: Path, others: tuple[str, ...]
) -> None:
    weights = {}
    for modality in ("text", "said"):
        train_locally(job_on(*others, modality), tmp_path / modality)
        last = sorted((tmp_path / modality).glob("epoch-*"))[-1]
        weights[modality] = load_file(last / "model.safetensors")
    renamed = {
        name.replace("vector_encoders.0.", "text_encoder."): tensor
        for name, tensor in weights["said"].items()
    }
    assert renamed != weights["said"]
    assert renamed.keys() == weights["text"].keys()
    assert all(torch.equal(renamed[name], tensor) for name, tensor in weights["text"].items())


def test_an_array_stands_beside_the_text(job_on: Any, train_locally: Any, tmp_path: Path) -> None:
    link = train_locally(job_on("text", "said"), tmp_path / "both")
    assert len(link.reports) == 2


def test_a_part_that_the_data_set_lacks_is_refused_with_the_nearest(job_on: Any) -> None:
    with pytest.raises(InputError, match=r"--data.modalities: 'sad' .*did you mean said\?"):
        plan_data(job_on("video", "sad"))
