"""What an MLflow run is given when its training ends: figures, best scores and the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from giblet_ray.checkpoint.files import NORMALISATION, VOXELS, WEIGHTS, load_voxel_pearson
from giblet_ray.checkpoint.record import RECORD
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.evaluation.figures import learning_curves, voxel_histogram
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.tracking.logged_model import log_model
from giblet_ray.tracking.mlflow_run import MlflowRun

MODEL_NAME = "encoder"
_LOADER = "giblet_ray.checkpoint.served"
_SERVED = (RECORD, WEIGHTS, NORMALISATION, VOXELS)
"""Files of a checkpoint that are logged: what only training needs (the optimizer) is left out."""


def report_best(
    run: MlflowRun,
    checkpoint: Path,
    history: Sequence[dict[str, float]],
    score: Score,
    log_model: bool,
) -> None:
    """Add learning curves, the histogram of voxel r, the best epoch's scores and its model.

    Told again, it replaces them; a model that is there already stays.

    Parameters
    ----------
    run : MlflowRun
        The training's run.
    checkpoint : Path
        Local folder of the best checkpoint.
    history : sequence of dict
        Metrics of every epoch.
    score : Score
        What the best epoch is chosen by.
    log_model : bool
        Whether to store the model itself.
    """
    curves = [
        {
            "epoch": metrics["epoch"],
            "train_loss": metrics["train/loss"],
            "val_loss": metrics["val/loss"],
            "val_pearson_mean": metrics[VAL_PEARSON],
        }
        for metrics in history
    ]
    run.figure(learning_curves(curves), "learning_curves.png")
    run.figure(voxel_histogram(load_voxel_pearson(checkpoint)), "voxel_pearson.png")
    run.best(dict(score.best_epoch(history) or {}))
    if log_model and not run.has_model():
        log_checkpoint(run.uri, run.id, checkpoint)


def log_checkpoint(uri: str, run_id: str, checkpoint: Path) -> str:
    """Store a checkpoint as the MLflow model of a run, and return the model's id.

    Parameters
    ----------
    uri : str
        Tracking store.
    run_id : str
        The MLflow run that the checkpoint is of.
    checkpoint : Path
        Local folder.

    Raises
    ------
    InputError
        If the checkpoint cannot be loaded.
    """
    encoder = Encoder.load(checkpoint)
    kinds = encoder.record.dataset.values
    inputs = {name: (kind.dtype, kind.shape) for name, kind in kinds.items() if name != "bold"}
    outputs = {"bold": ("float32", (encoder.model.n_voxels,))}
    files = [checkpoint / name for name in _SERVED if (checkpoint / name).exists()]
    return log_model(uri, run_id, MODEL_NAME, files, _LOADER, inputs, outputs)
