"""How close a model came to the best that any model could reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from giblet_ray.checkpoint.judged import read_judged_units
from giblet_ray.dataset.storage import Storage


def share_of_ceiling(run_folder: str, ceiling_voxels: Path) -> tuple[float, float]:
    """Compare r on the test TRs with the noise ceiling, over the voxels that were scored.

    Parameters
    ----------
    run_folder : str
        Folder or URI of a run that has been judged.
    ceiling_voxels : Path
        .npy with the noise ceiling of each voxel, shape (voxels,), the same in all subjects.

    Returns
    -------
    pearson_mean, ceiling_mean : float
        Means over voxels, then subjects.
    """
    ceiling_V = np.load(ceiling_voxels, allow_pickle=False)
    of_subjects = read_judged_units(Storage.at(run_folder), "").values()
    reached = [float(np.nanmean(pearson_V)) for pearson_V in of_subjects]
    possible = [float(ceiling_V[np.isfinite(pearson_V)].mean()) for pearson_V in of_subjects]
    return float(np.mean(reached)), float(np.mean(possible))
