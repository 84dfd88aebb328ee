"""What an MLflow run is given when its training ends: figures, best scores and the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from giblet_ray.evaluation.figures import learning_curves, voxel_histogram
from giblet_ray.models.trained import Encoder
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.run import PACKAGES, MlflowRun, package_version
from giblet_ray.training.checkpoint import load_voxel_pearson

_MODEL_CODE = Path(__file__).with_name("served_encoder.py")


def report_best(
    run: MlflowRun, checkpoint: Path, history: Sequence[dict[str, float]], log_model: bool
) -> None:
    """Add learning curves, the histogram of voxel r, the best epoch's scores and its model.

    Parameters
    ----------
    run : MlflowRun
        The training's run.
    checkpoint : Path
        Local folder of the best checkpoint.
    history : sequence of dict
        Metrics of every epoch.
    log_model : bool
        Whether to store the model itself.
    """
    curves = [
        {
            "epoch": metrics["epoch"],
            "train_loss": metrics["train/loss"],
            "val_loss": metrics["val/loss"],
            "val_pearson_mean": metrics["val/pearson_mean"],
        }
        for metrics in history
    ]
    run.figure(learning_curves(curves), "learning_curves.png")
    run.figure(voxel_histogram(load_voxel_pearson(checkpoint)), "voxel_pearson.png")
    best = max(history, key=lambda metrics: metrics["val/pearson_mean"])
    run.metrics({f"best/{name}": value for name, value in best.items() if "val/" in name})
    if log_model:
        _log_model(run, checkpoint)


def _log_model(run: MlflowRun, checkpoint: Path) -> None:
    """Store the checkpoint as an MLflow model: code and safetensors, nothing pickled."""
    quiet_mlflow()
    encoder = Encoder.load(checkpoint)
    kinds = encoder.record["dataset"]["values"]
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(kind["dtype"]), (-1, *kind["shape"]), name)
        for name, kind in kinds.items()
        if name != "bold"
    ]
    voxels = TensorSpec(np.dtype("float32"), (-1, encoder.model.n_voxels), "bold")
    mlflow.set_tracking_uri(run.uri)
    with mlflow.start_run(run_id=run.id), warnings.catch_warnings():
        # It advises an input example to infer the signature from, which is given here.
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        mlflow.pyfunc.log_model(
            name="encoder",
            python_model=str(_MODEL_CODE),
            artifacts={"checkpoint": str(checkpoint)},
            signature=ModelSignature(Schema(inputs), Schema([voxels])),
            # Named here, so that MLflow need not load the model to guess them.
            pip_requirements=[f"{name}=={package_version(name)}" for name in PACKAGES],
        )
