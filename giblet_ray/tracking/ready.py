"""MLflow, made ready while something else is waited for."""

from __future__ import annotations

import importlib

from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.sqlite import absolute_uri, make_store, store_file


def ready_store(uri: str) -> None:
    """Import MLflow, and make the tracking store if it is a file that is not there yet.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    quiet_mlflow()
    importlib.import_module("giblet_ray.tracking.mlflow_run")
    from giblet_ray.tracking.server import tracking_errors

    quiet_mlflow()  # once more: MLflow sets up its log when it is imported
    if (file := store_file(absolute_uri(uri))) is not None:
        with tracking_errors(uri):
            make_store(file)
