"""How well each voxel is predicted by a run's best checkpoint."""

from __future__ import annotations

import posixpath

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from giblet_ray.checkpoint.files import VOXELS, all_pearson
from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, one_line


def read_voxel_pearson(folder: str) -> NDArray[np.float64]:
    """Return r of each voxel by the best checkpoint below a run's folder or URI.

    (V,), NaN where not scored; those of one subject after another, where their units differ.

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
        return all_pearson(load(storage.read(posixpath.join(best.name, VOXELS))))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{folder}: its best checkpoint has no {VOXELS}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: its checkpoints cannot be read: {one_line(error)}") from error
