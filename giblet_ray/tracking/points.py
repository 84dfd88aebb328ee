"""Points of curves as JSON, and the files of those that MLflow has not taken.

Imports no MLflow, so that a worker which logs nothing need not wait for it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from giblet_ray.dataset.storage import Storage

Point = Mapping[str, Any]
"""``run`` (id), ``key``, ``value``, ``timestamp`` (ms) and ``step`` of a metric."""

_UNSENT = "mlflow-unsent"


class RunAddress(NamedTuple):
    """Where a run is logged to."""

    uri: str
    """Tracking store."""
    run_id: str
    """MLflow's run."""
    started: float
    """When it began (s since 1970)."""


def unsent_name(folder: str, node: str | None = None) -> str:
    """Return the name of the file that holds what MLflow has not taken of a run."""
    name = _UNSENT if node is None else f"{_UNSENT}-{node}"
    return posixpath.join(folder, f"{name}.jsonl")


def keep_unsent(
    storage: Storage, folder: str, points: Sequence[Point], node: str | None = None
) -> None:
    """Write what MLflow has not taken of a run into its folder, in place of what lay there.

    Parameters
    ----------
    storage : Storage
        Where runs are kept.
    folder : str
        The run's folder.
    points : sequence of Point
        What MLflow has not taken. Without any there is no file.
    node : str, optional
        The node that the points are of, if each keeps a file.
    """
    name = unsent_name(folder, node)
    if not points:
        storage.delete(name)
        return
    with storage.write(name) as stream:
        stream.writelines(json.dumps(point).encode() + b"\n" for point in points)


def read_unsent(storage: Storage, folder: str) -> dict[str, list[Point]]:
    """Return what MLflow has not taken of a run, by the file that it lies in."""
    prefix = posixpath.join(folder, _UNSENT)
    return {
        name: [json.loads(line) for line in storage.read(name).splitlines()]
        for name in storage.names(folder)
        if name.startswith(prefix)
    }
