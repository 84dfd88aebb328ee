"""A trained model, two of whose voxels were masked, and the mask of its scans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from checkpoints import sign
from safetensors.numpy import load_file, save_file

from giblet_ray.config import PredictJob
from giblet_ray.dataset.reader import Dataset

MASKED = (3, 17)
N_VOXELS = 24


@pytest.fixture(scope="session")
def checkpoint(local_training: Callable[..., Any], tmp_path_factory: Any) -> Path:
    """The checkpoint of an epoch on the small data set, at a lag of 3 TRs."""
    folder = tmp_path_factory.mktemp("predictor")
    local_training(train={"epochs": 1, "batch_size": 16}).train(folder)
    (saved,) = folder.iterdir()
    normalisation = load_file(saved / "normalisation.safetensors")
    normalisation["valid_V"][list(MASKED)] = False
    save_file(normalisation, saved / "normalisation.safetensors")
    sign(saved, "normalisation.safetensors")
    return saved


def write_mask(file: Path, n_voxels: int, seed: int = 0) -> np.ndarray:
    """Write a mask of scattered voxels in a space that is shifted, flipped and not cubic."""
    inside = np.zeros((4, 5, 3), np.uint8)
    inside.flat[np.random.default_rng(seed).permutation(60)[:n_voxels]] = 1
    affine = np.array([[-2, 0, 0, 10], [0, 2, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(inside, affine)
    image.set_sform(affine, 4)
    nibabel.save(image, file)
    return inside.astype(bool)


@pytest.fixture(scope="session")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of as many voxels as the model predicts."""
    file = tmp_path_factory.mktemp("mask") / "mask.nii.gz"
    write_mask(file, N_VOXELS)
    return file


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
