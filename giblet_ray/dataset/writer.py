"""Arrays, one per TR, to a Parquet shard; shards to a data set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.reader import as_binary
from giblet_ray.dataset.schema import MANIFEST, Manifest, Shard, ValueType
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError


def value_type(values: np.ndarray) -> ValueType:
    """Return the type of the rows of an array (TRs, ...)."""
    return ValueType.model_validate({"dtype": values.dtype.name, "shape": values.shape[1:]})


def write_shard(
    storage: Storage, path: str, values: np.ndarray, row_group_trs: int, labels: dict[str, str]
) -> Shard:
    """Write one array per TR as a Parquet file, whole or not at all.

    Parameters
    ----------
    storage : Storage
        The data set's folder.
    path : str
        Path of the shard below it, such as ``frames/film.parquet``.
    values : ndarray, shape (n_trs, ...)
        uint8, int16, float16 or float32.
    row_group_trs : int
        TRs per row group.
    labels : dict of str
        What the file is of (part, stimulus, subject): a reader that finds other labels than it
        asked for has been given the wrong file.

    Returns
    -------
    Shard
        Path, size and checksum, for the manifest.

    Raises
    ------
    InputError
        If there are no TRs.
    """
    n_trs = len(values)
    if n_trs == 0:
        raise InputError(f"{storage.describe(path)}: no TRs to write; at least one is accepted")
    kind = value_type(values)
    values = values.astype(kind.numpy, copy=False)
    column = as_binary(values)
    schema = pa.schema([pa.field("tr", pa.int32()), kind.field("value")], metadata=dict(labels))
    table = pa.Table.from_arrays(
        [pa.array(np.arange(n_trs, dtype=np.int32)), column], schema=schema
    )
    with storage.write(path) as stream:
        # Payloads are read whole, never searched: encoding or summarising them only costs time.
        # The page checksums cost little and let a reader notice a flipped bit.
        pq.write_table(
            table,
            stream,
            row_group_size=row_group_trs,
            compression="none",
            use_dictionary=False,
            write_statistics=["tr"],
            write_page_checksum=True,
        )
    size = storage.size(path)
    if size is None:
        raise OSError(f"{storage.describe(path)}: not there after it was written")
    return Shard(path=path, bytes=size, sha256=storage.sha256(path))


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    """Turn finished shards into a data set: the last thing that a writer does."""
    with storage.write(MANIFEST) as stream:
        stream.write(manifest.to_json())
