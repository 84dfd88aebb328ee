"""A unit that is masked in one subject trains, is scored and is predicted in the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_training import LocalLink, LocalTraining
from safetensors.torch import load_file

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Span
from giblet_ray.judge.judge import score_test
from giblet_ray.judge.opened import open_run

CONSTANT, NOT_FINITE = 4, 7
"""Units: in every training TR of subject 01, and in one of subject 02."""
Trained = tuple[LocalTraining, LocalLink, Path]


@pytest.fixture(scope="module")
def train(
    dataset_writer: Callable, tiny_model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[float], Trained]:
    """Train on scans of which one unit of subject 01 has this value throughout."""

    def make(value: float) -> Trained:
        def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
            if key.subject == "01":
                bold[:, CONSTANT] = value
            else:
                bold[20:22, NOT_FINITE] = np.nan
            return bold

        folder = tmp_path_factory.mktemp("masked")
        dataset_writer(folder / "film", {"one": 117}, ("01", "02"), n_voxels=12, change_bold=change)
        training = LocalTraining(
            TrainJob(
                dataset=str(folder / "film"),
                model=tiny_model,
                train={"epochs": 2, "batch_trs": 16, "metrics": ["my_lab.metrics:spearman"]},
                optimizer={"lr": 1e-2},
                packages=("my_lab",),
            )
        )
        return training, training.train(folder / "run"), folder / "run"

    return make


@pytest.fixture(scope="module")
def trained(train: Callable[[float], Trained]) -> Trained:
    return train(993.7)


def test_each_subject_is_scored_where_it_has_bold(trained: Trained) -> None:
    training, _, run = trained
    opened = open_run(str(run), packages=["my_lab"])
    assert opened.data.dataset.manifest.checksum == training.data.dataset.manifest.checksum
    scores, _ = score_test(opened)
    masked = {name: np.flatnonzero(np.isnan(of.pearson_V)) for name, of in scores.subjects.items()}
    assert {name: units.tolist() for name, units in masked.items()} == {
        "01": [CONSTANT],
        "02": [NOT_FINITE],
    }
    assert scores.mean is not None
    assert np.isfinite(scores.mean.pearson_V).all()
    assert scores.mean.pearson_V[CONSTANT] == scores.subjects["02"].pearson_V[CONSTANT] != 0
    last = sorted(run.glob("epoch-*"))[-1]
    assert load_file(last / "voxels.safetensors")["pearson_V"].isfinite().all()


def test_a_prediction_is_missing_where_its_own_subject_was_masked(trained: Trained) -> None:
    training, _, run = trained
    encoder = Encoder.load(run, packages=["my_lab"])
    dataset = training.data.dataset
    span = Span("one", 20, 30)
    predicted = {
        name: encoder.predict_bold(dataset, span, n) for n, name in enumerate(("01", "02"))
    }
    masked = {name: np.isnan(bold).all(axis=0).nonzero()[0] for name, bold in predicted.items()}
    assert {name: units.tolist() for name, units in masked.items()} == {
        "01": [CONSTANT],
        "02": [NOT_FINITE],
    }
    both = ~np.isnan(predicted["01"]) & ~np.isnan(predicted["02"])
    np.testing.assert_array_equal(predicted["01"][both], predicted["02"][both])
    text = {
        part: np.zeros((3, *kind.shape), kind.dtype)
        for part, kind in encoder.shapes.values.items()
        if part != "bold"
    }
    assert np.isfinite(encoder.predict(**text)).all()
    assert np.isnan(encoder.predict_trs(text, 0)).all(axis=0).nonzero()[0].tolist() == [CONSTANT]


def test_what_a_masked_unit_holds_changes_no_number(
    trained: Trained, train: Callable[[float], Trained]
) -> None:
    again = train(-12.0)
    for metrics, others in zip(trained[1].reports, again[1].reports, strict=True):
        same = {name for name in metrics if name.startswith("val/") or name == "train/loss"}
        assert {name: metrics[name] for name in same} == {name: others[name] for name in same}
        assert any(name not in ("val/loss", "val/mse") for name in same)
