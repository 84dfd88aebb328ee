"""A run's model in MLflow: files, the module that loads them, and what goes in and comes out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from giblet_ray.tracking.mlflow_run import PACKAGES, package_version
from giblet_ray.tracking.quiet import large_files, quiet_mlflow

_FILES = "files"

Values = Mapping[str, tuple[Any, tuple[int, ...]]]
"""The dtype and the shape of one row of some arrays, by name."""


def model_files(artifact_location: str) -> str:
    """Return the URI of the folder with the files that a model was logged with."""
    return f"{artifact_location}/data/{_FILES}"


def log_model(
    uri: str,
    run_id: str,
    name: str,
    files: Iterable[Path],
    loader: str,
    inputs: Values,
    outputs: Values,
    texts: Iterable[str] = (),
) -> str:
    """Store files as a model of a run; nothing is pickled, and no code is stored.

    The run itself stays as it is, so that one that has ended does not seem to run again.

    Parameters
    ----------
    uri : str
        Tracking store.
    run_id : str
        The run.
    name : str
        What the model is called.
    files : iterable of Path
        Local files.
    loader : str
        Module whose ``_load_pyfunc(folder)`` returns what predicts, from a folder with the files.
    inputs, outputs : mapping of str to (dtype, shape)
        What it predicts from, and what it predicts: rows, any number of them.
    texts : iterable of str
        Names of parameters that it takes besides; each is text, and empty if it is not given.

    Returns
    -------
    str
        Id of the logged model.
    """
    quiet_mlflow()
    client = MlflowClient(uri)
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name, run_id, params=run.data.params
    )
    status = LoggedModelStatus.FAILED
    try:
        with TemporaryDirectory() as folder, warnings.catch_warnings(), large_files():
            # It advises an input example to infer the signature from, which is given here.
            warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
            linked = Path(folder, _FILES)
            linked.mkdir()
            for file in files:
                (linked / file.name).symlink_to(file.absolute())
            mlflow.pyfunc.save_model(
                path=f"{folder}/model",
                mlflow_model=Model(
                    artifact_path=logged.artifact_location,
                    model_uuid=logged.model_id,
                    model_id=logged.model_id,
                    run_id=run_id,
                ),
                loader_module=loader,
                data_path=str(linked),
                signature=ModelSignature(
                    _schema(inputs),
                    _schema(outputs),
                    ParamSchema([ParamSpec(name, "string", "") for name in texts]),
                ),
                # Named here, so that MLflow need not load the model to guess them.
                pip_requirements=[f"{name}=={package_version(name)}" for name in PACKAGES],
            )
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    return logged.model_id


def _schema(values: Values) -> Schema:
    specs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(dtype), (-1, *shape), name) for name, (dtype, shape) in values.items()
    ]
    return Schema(specs)
