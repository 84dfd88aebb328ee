"""How well each voxel is predicted by a run's best checkpoint, and what that says of its metric."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from giblet_ray.checkpoint.files import VOXELS
from giblet_ray.checkpoint.store import best_checkpoint
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.evaluation.bootstrap import Interval, bootstrap_interval
from giblet_ray.evaluation.score import VAL_PEARSON

VoxelScores = Mapping[str, NDArray[np.float64]]
"""``pearson_V`` and ``r2_V``, each (V,), NaN where not scored."""

_SUMMARIES: dict[str, tuple[str, Callable[[NDArray], NDArray]]] = {
    VAL_PEARSON: ("pearson_V", lambda r: r.mean(axis=-1)),
    "val/pearson_median": ("pearson_V", lambda r: np.median(r, axis=-1)),
    "val/pearson_p95": ("pearson_V", lambda r: np.percentile(r, 95, axis=-1)),
    "val/r2_mean": ("r2_V", lambda r2: r2.mean(axis=-1)),
}
"""Metrics that are summaries over voxels: of which score, and how."""


def is_over_voxels(metric: str) -> bool:
    """Whether a metric is a summary over voxels, and so has an uncertainty over them."""
    return metric in _SUMMARIES


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


def interval_of(metric: str, scores: VoxelScores, seed: int) -> Interval:
    """Return how far a metric would move with other voxels; see :func:`is_over_voxels`."""
    name, summary = _SUMMARIES[metric]
    return bootstrap_interval(scores[name], summary, seed=seed)
