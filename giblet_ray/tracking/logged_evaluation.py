"""What an evaluation adds to the MLflow run that it is of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from matplotlib.figure import Figure
from mlflow.entities import Metric

from giblet_ray.tracking.server import tracking_errors
from giblet_ray.tracking.store import open_store


def log_evaluation(
    uri: str,
    folder: str,
    metrics: Mapping[str, float],
    figures: Mapping[str, Figure],
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str | None:
    """Log metrics, figures and texts to the run whose checkpoints lie in a folder.

    Parameters
    ----------
    uri : str
        Tracking store.
    folder : str
        Folder or URI of the run.
    metrics : mapping of str to float
        By name.
    figures, texts : mapping of str to Figure, of str to str
        By the name of their artifact.

    Returns
    -------
    str or None
        The run's id; None if the store has no such run.

    Raises
    ------
    InputError
        If the store cannot be used.
    """
    store = open_store(uri)
    with tracking_errors(uri):
        found = next((run for run in store.runs() if run.folder == folder), None)
        if found is None:
            return None
        now = round(1000 * time.time())
        logged = [Metric(name, value, now, 0) for name, value in metrics.items()]
        store.client.log_batch(found.id, metrics=logged)
        for name, figure in figures.items():
            store.client.log_figure(found.id, figure, name)
        for name, text in texts.items():
            store.client.log_text(found.id, text, name)
    return found.id
