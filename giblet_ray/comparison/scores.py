"""How well each voxel is predicted by a run's best checkpoint."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from giblet_ray.checkpoint.files import VOXELS
from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError

VoxelScores = Mapping[str, NDArray[np.float64]]
"""``pearson_V`` and ``r2_V``, each (V,), NaN where not scored."""


def read_voxel_scores(folder: str) -> VoxelScores:
    """Return the scores per voxel of the best checkpoint below a run's folder or URI.

    Raises
    ------
    InputError
        If there is none, or it cannot be read.
    """
    try:
        storage = Storage.at(folder)
        best = best_checkpoint(storage, "")
        if best is None:
            raise InputError(f"{folder}: no checkpoint there")
        return load(storage.read(posixpath.join(best.name, VOXELS)))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{folder}: its best checkpoint has no {VOXELS}") from error
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: its checkpoints cannot be read: {reason}") from error
