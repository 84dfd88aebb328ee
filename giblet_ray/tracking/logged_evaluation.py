"""What an evaluation adds to the MLflow run that it is of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Metric

from giblet_ray.tracking.recorded_run import RecordedRun
from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.store import open_store


def recorded_run(uri: str, folder: str) -> RecordedRun | None:
    """Return the run whose checkpoints lie in a folder, None if the store has no such run.

    Parameters
    ----------
    uri : str
        Tracking store.
    folder : str
        Folder or URI of the run.

    Raises
    ------
    InputError
        If the store cannot be used.
    """
    store = open_store(uri)
    with tracking_errors(uri):
        return next((run for run in store.runs() if run.folder == folder), None)


def log_evaluation(
    uri: str, run_id: str, metrics: Mapping[str, float], files: Mapping[str, bytes]
) -> None:
    """Log metrics and files to a run.

    Parameters
    ----------
    uri, run_id
        As :func:`giblet_ray.tracking.logged_model.log_model` takes them.
    metrics : mapping of str to float
        By name.
    files : mapping of str to bytes
        By the path of their artifact.

    Raises
    ------
    InputError
        If the store cannot be used.
    """
    store = open_store(uri)
    with tracking_errors(uri), TemporaryDirectory(prefix="giblet_ray-") as folder:
        now = round(1000 * time.time())
        logged = [Metric(name, value, now, 0) for name, value in metrics.items()]
        store.client.log_batch(run_id, metrics=logged)
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        store.client.log_artifacts(run_id, folder)
