"""What an MLflow run is given when its training ends: figures, best scores and the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from giblet_ray.checkpoint.files import NORMALISATION, VOXELS, WEIGHTS, load_voxel_pearson
from giblet_ray.checkpoint.record import RECORD
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.evaluation.figures import learning_curves, voxel_histogram
from giblet_ray.tracking.quiet import large_files, quiet_mlflow
from giblet_ray.tracking.run import PACKAGES, MlflowRun, package_version

MODEL_NAME = "encoder"
_MODEL_CODE = Path(__file__).with_name("served_encoder.py")


def report_best(
    run: MlflowRun, checkpoint: Path, history: Sequence[dict[str, float]], log_model: bool
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
    run.best(max(history, key=lambda metrics: metrics["val/pearson_mean"]))
    if log_model and not run.has_model():
        log_checkpoint(run.uri, run.id, checkpoint)


def log_checkpoint(uri: str, run_id: str, checkpoint: Path) -> str:
    """Store a checkpoint as the MLflow model of a run: code and safetensors, nothing pickled.

    The run itself stays as it is, so that one that has ended does not seem to run again.

    Parameters
    ----------
    uri : str
        Tracking store.
    run_id : str
        The MLflow run that the checkpoint is of.
    checkpoint : Path
        Local folder. What only training needs of it (the optimizer) is left out.

    Returns
    -------
    str
        Id of the logged model; its files lie below its ``artifacts/``.

    Raises
    ------
    InputError
        If the checkpoint cannot be loaded.
    """
    quiet_mlflow()
    encoder = Encoder.load(checkpoint)
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, MODEL_NAME, run_id, params=run.data.params
    )
    status = LoggedModelStatus.FAILED
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings(), large_files():
            # It advises an input example to infer the signature from, which is given here.
            warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
            mlflow.pyfunc.save_model(
                path=f"{folder}/model",
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                    run_id=run_id,
                ),
                python_model=str(_MODEL_CODE),
                artifacts={
                    name: str(checkpoint / name)
                    for name in (RECORD, WEIGHTS, NORMALISATION, VOXELS)
                    if (checkpoint / name).exists()
                },
                signature=_signature(encoder),
                # Named here, so that MLflow need not load the model to guess them.
                pip_requirements=[f"{name}=={package_version(name)}" for name in PACKAGES],
            )
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return logged.model_id


def _signature(encoder: Encoder) -> ModelSignature:
    kinds = encoder.record["dataset"]["values"]
    inputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(kind["dtype"]), (-1, *kind["shape"]), name)
        for name, kind in kinds.items()
        if name != "bold"
    ]
    voxels = TensorSpec(np.dtype("float32"), (-1, encoder.model.n_voxels), "bold")
    return ModelSignature(Schema(inputs), Schema([voxels]))
