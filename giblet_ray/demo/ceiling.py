"""How close a model came to the best that any model could reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from giblet_ray.checkpoint.files import VOXELS, load_voxel_pearson
from giblet_ray.checkpoint.store import find_checkpoint


def share_of_ceiling(location: str, ceiling_voxels: Path) -> tuple[float, float]:
    """Compare held-out r with the noise ceiling, over the voxels that were scored.

    Parameters
    ----------
    location : str
        Folder or URI of a checkpoint that ends an epoch.
    ceiling_voxels : Path
        .npy with the noise ceiling of each voxel, shape (voxels,).

    Returns
    -------
    pearson_mean, ceiling_mean : float
        Means over voxels.
    """
    with find_checkpoint(location).files((VOXELS,)) as folder:
        pearson_V = load_voxel_pearson(folder)
    ceiling_V = np.load(ceiling_voxels, allow_pickle=False)
    scored = np.isfinite(pearson_V)
    return float(pearson_V[scored].mean()), float(ceiling_V[scored].mean())
