"""A trained model with memory and heads predicts for a subject, or for nobody in particular."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalTraining
from three_people import UNITS, people_job

from giblet_ray.checkpoint.served import ServedEncoder
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.errors import InputError
from giblet_ray.models.predictor import GROUP

MODEL: dict[str, Any] = {
    **{"kind": "multimodal", "inputs": "vectors", "norm": "layer", "trunk_dims": (7,)},
    **{"bottleneck_dim": 5, "memory": "hrf", "context_seconds": 9.0, "dropout": 0.0},
    **{"head": "linear", "heads": "subject", "batch_norm": "frozen"},
}


@pytest.fixture(scope="module")
def encoder(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Of three people with units of their own."""
    run = tmp_path_factory.mktemp("encoder") / "run"
    settings = people_job(people, model=MODEL, train={"epochs": 1, "batch_trs": 24})
    LocalTraining(TrainJob.model_validate(settings)).train(run)
    return Encoder.load(run)


@pytest.fixture(scope="module")
def alike(
    arrays_and_dataset: tuple[Any, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Encoder:
    """Of two people who share their units."""
    folder = Path(arrays_and_dataset[1].storage.location)
    model = {**MODEL, "subject_dropout": 0.2}
    settings = people_job(folder, model=model, train={"epochs": 1, "batch_trs": 24})
    run = tmp_path_factory.mktemp("alike") / "run"
    LocalTraining(TrainJob.model_validate(settings)).train(run)
    return Encoder.load(run)


def test_a_film_in_pieces_is_predicted_as_in_one(people: Path, encoder: Encoder) -> None:
    assert encoder.model.context_trs == 6
    dataset = Dataset.open(str(people))
    values = encoder.read_stimulus(dataset, Span("one", 0, 90))
    for index, n_units in enumerate(UNITS.values()):
        whole_NV = encoder.predict_trs(values, index)
        assert whole_NV.shape == (90, n_units)
        assert np.ptp(whole_NV, axis=0).min() > 0
        pieces_NV = encoder.predict_trs(values, index, at_a_time=7)
        np.testing.assert_allclose(pieces_NV, whole_NV, atol=1e-5)
        for start, stop in ((0, 5), (3, 40), (40, 90)):  # from the data set, with its past
            span_NV = encoder.predict_bold(dataset, Span("one", start, stop), index)
            np.testing.assert_allclose(span_NV, whole_NV[start:stop], atol=1e-5)


def test_memory_does_not_grow_with_a_films_length(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    forward = encoder.model.forward

    def spied(values: Any, exists: torch.Tensor, *rest: Any) -> Any:
        given.append(exists.numel())
        return forward(values, exists, *rest)

    monkeypatch.setattr(encoder.model, "forward", spied)
    value = encoder.shapes.values["text"]
    film = np.random.default_rng(0).normal(size=(1000, *value.shape)).astype(value.dtype)
    assert len(encoder.predict_trs({"text": film}, 0)) == 1000
    assert max(given) == 256 + encoder.model.context_trs


def test_earlier_trs_change_a_prediction(people: Path, encoder: Encoder) -> None:
    values = encoder.read_stimulus(Dataset.open(str(people)), Span("one", 0, 90))
    shuffled = {part: value.copy() for part, value in values.items()}
    shuffled["text"][30:36] = shuffled["text"][35:29:-1]
    before, after = (encoder.predict_trs(each, 1)[36] for each in (values, shuffled))
    assert not np.allclose(before, after, atol=1e-4)


def test_who_shares_units_has_a_head_for_nobody_in_particular(alike: Encoder) -> None:
    text = np.random.default_rng(0).normal(size=(9, 1024)).astype(np.float32)
    assert alike.head_of(None) == alike.head_of("group") == GROUP
    group, first = alike.predict(text=text), alike.predict("01", text=text)
    assert group.shape == first.shape == (9, 24)
    assert not np.allclose(group, first)
    np.testing.assert_array_equal(alike.predict("group", text=text), group)
    with torch.no_grad():  # what a subject deviates by is all that tells them apart
        for own in alike.model.head.own:
            own.weight.zero_()
            own.bias.zero_()
    np.testing.assert_allclose(alike.predict("02", text=text), group, atol=1e-6)
    with pytest.raises(InputError, match=r"subject 09: .* 01, 02; group is its head for nobody"):
        alike.predict("09", text=text)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((9, 1024)),
            r"text: found rows of float64\(1024\), .* trained on float32\(1024\)",
        ),
        (np.zeros((9, 512), np.float32), r"text: found rows of float32\(512\), the model was"),
        (np.zeros((0, 1024), np.float32), r"rows: found 0 of text; each part has one row per TR"),
    ],
    ids=["dtype", "shape", "none"],
)
def test_rows_that_it_was_not_trained_on_are_refused(
    alike: Encoder, rows: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        alike.predict("01", text=rows)


def test_parts_of_other_lengths_are_refused_and_not_filled_up(people: Path, tmp_path: Path) -> None:
    groups = {
        "model": {**MODEL, "audio_codebooks": 4},
        "data": {"modalities": ("audio", "text")},
        "train": {"epochs": 1, "batch_trs": 24},
    }
    settings = people_job(people, **groups)
    LocalTraining(TrainJob.model_validate(settings)).train(tmp_path / "run")
    encoder = Encoder.load(tmp_path / "run")
    values = encoder.read_stimulus(Dataset.open(str(people)), Span("one", 0, 9))
    shorter = {**values, "text": values["text"][:8]}
    with pytest.raises(InputError, match=r"rows: found 9 of codes, 8 of text; each part has one"):
        encoder.predict("01", **shorter)


def test_who_shares_none_has_no_such_head(encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"subject group: the model was trained on 01, 02, 03$"):
        encoder.head_of("group")


def test_a_served_model_is_told_the_subject(encoder: Encoder) -> None:
    text = np.random.default_rng(0).normal(size=(9, 1024)).astype(np.float32)
    served = ServedEncoder(encoder)
    told = served.predict({"text": text}, {"subject": "02"})
    np.testing.assert_array_equal(told, encoder.predict("02", text=text))
    with pytest.raises(InputError, match="subject is missing"):
        served.predict({"text": text}, {"subject": ""})
