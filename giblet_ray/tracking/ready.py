"""What a job waits for before it begins: Ray, and MLflow with a store, both at the same time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from giblet_ray.cluster import connect
from giblet_ray.tracking.quiet import quiet_mlflow
from giblet_ray.tracking.sqlite import absolute_uri, make_store, store_file


def connect_beside_store(uri: str) -> Callable[[], None]:
    """Connect to Ray; import MLflow and make the tracking store while Ray starts.

    Returns
    -------
    callable
        Waits until the store is there; raises InputError if it cannot be made.

    Raises
    ------
    InputError
        If there is no cluster to connect to.
    """
    meanwhile = ThreadPoolExecutor(1)
    store = meanwhile.submit(_ready_store, uri)
    meanwhile.shutdown(wait=False)
    connect()
    return store.result


def _ready_store(uri: str) -> None:
    """Import MLflow, and make the store if it is a file that is not there yet."""
    quiet_mlflow()
    importlib.import_module("giblet_ray.tracking.mlflow_run")
    from giblet_ray.tracking.server import tracking_errors

    quiet_mlflow()  # once more: MLflow sets up its log when it is imported
    if (file := store_file(absolute_uri(uri))) is not None:
        with tracking_errors(uri):
            make_store(file)
