"""Z-scoring of BOLD in one pass over its rows, on all nodes of a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from giblet_ray.dataset.normalise import Moments, Normalisation, PartialMoments, UsedRows
from giblet_ray.dataset.source import plain_errors, task_options

_ROW = {
    "scan": pa.int32(),
    "first": pa.int32(),
    "n": pa.int64(),
    "mean": pa.binary(),
    "squares": pa.binary(),
    "finite": pa.binary(),
}
"""What a block holds of a scan, as it travels to the driver."""


def fit_on_cluster(rows: ray.data.Dataset, used: UsedRows) -> Normalisation:
    """Compute on all nodes what :meth:`UsedRows.fit` does here, the same to the last bit.

    Parameters
    ----------
    rows : ray.data.Dataset
        Rows with BOLD as stored.
    used : UsedRows
        Which of them train or judge.

    Raises
    ------
    InputError
        If a file is damaged, a subject has no training TRs, or no voxel of one is left.
    """

    def partial_moments(block: pa.Table) -> pa.Table:
        found = used.moments(block)
        columns = zip(*map(_as_row, found), strict=True) if found else ([] for _ in _ROW)
        return pa.table(
            {
                name: pa.array(values, kind)
                for (name, kind), values in zip(_ROW.items(), columns, strict=True)
            }
        )

    results = rows.map_batches(
        partial_moments, batch_format="pyarrow", batch_size=None, **task_options()
    )
    with plain_errors():
        return used.merge(_from_row(row) for row in results.iter_rows())


def _as_row(found: PartialMoments) -> tuple[int, int, int, bytes, bytes, bytes]:
    n, *arrays = found.moments.n, found.moments.mean_V, found.moments.squares_V, found.finite_V
    mean, squares, finite = (array.tobytes() for array in arrays)
    return found.scan, found.first, n, mean, squares, finite


def _from_row(row: dict[str, Any]) -> PartialMoments:
    moments = Moments(row["n"], np.frombuffer(row["mean"]), np.frombuffer(row["squares"]))
    return PartialMoments(row["scan"], row["first"], moments, np.frombuffer(row["finite"], bool))
