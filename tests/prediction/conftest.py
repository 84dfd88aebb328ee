"""A trained model, two of whose voxels were masked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import sign
from safetensors.numpy import load_file, save_file

from giblet_ray.config import PredictJob
from giblet_ray.dataset.reader import Dataset

MASKED = (3, 17)


@pytest.fixture(scope="session")
def checkpoint(local_training: Callable[..., Any], tmp_path_factory: Any) -> Path:
    """Of an epoch on the small data set, with modality dropout, at a lag of 3 TRs."""
    folder = tmp_path_factory.mktemp("predictor")
    dropout = {"modality_dropout": 0.2}
    local_training(model=dropout, train={"epochs": 1, "batch_trs": 16}).train(folder)
    (saved,) = folder.iterdir()
    normalisation = load_file(saved / "normalisation.safetensors")
    normalisation["valid_SV"][:, list(MASKED)] = False
    save_file(normalisation, saved / "normalisation.safetensors")
    sign(saved, "normalisation.safetensors")
    return saved


@pytest.fixture
def job(
    checkpoint: Path, arrays_and_dataset: tuple[Any, Dataset], tmp_path: Path
) -> Callable[..., PredictJob]:
    """Make a job on the small data set, into a folder of its own."""

    def make(**settings: Any) -> PredictJob:
        where = {
            "model": str(checkpoint),
            "dataset": arrays_and_dataset[1].storage.location,
            "out": str(tmp_path / "out"),
        }
        return PredictJob(**{**where, **settings})

    return make
