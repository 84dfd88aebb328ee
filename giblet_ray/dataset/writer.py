"""Arrays, one per TR, to a Parquet shard; shards to a data set."""

from __future__ import annotations

import hashlib
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.binary import as_binary
from giblet_ray.dataset.layout import BLOBS, MANIFEST, row_group_checksum, shard_schema
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Shard, WrittenFile
from giblet_ray.errors import InputError
from giblet_ray.names import checked_name
from giblet_ray.parts.value import ValueType


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
        Path, size and checksums, for the manifest.

    Raises
    ------
    InputError
        If there are no TRs.
    """
    n_trs = len(values)
    if n_trs == 0:
        raise InputError(f"{storage.describe(path)}: no TRs to write; at least one is accepted")
    kind = value_type(values)
    values = np.ascontiguousarray(values, kind.numpy)
    trs = np.arange(n_trs, dtype=np.int32)
    table = pa.Table.from_arrays(
        [pa.array(trs), as_binary(values)], schema=shard_schema(kind, labels)
    )
    with storage.write(path) as stream:
        file = _Hashed(stream)
        # Payloads are read whole, never searched: encoding or summarising them only costs time.
        pq.write_table(
            table,
            file,
            row_group_size=row_group_trs,
            compression="none",
            use_dictionary=False,
            write_statistics=["tr"],
        )
    groups = [slice(start, start + row_group_trs) for start in range(0, n_trs, row_group_trs)]
    return Shard(
        path=path,
        bytes=file.n_bytes,
        sha256=file.digest.hexdigest(),
        row_groups=tuple(row_group_checksum(trs[group], values[group]) for group in groups),
    )


def write_blob(storage: Storage, name: str, content: bytes) -> WrittenFile:
    """Write what a part or a subject needs once, whole or not at all; see
    :attr:`Manifest.blobs`.
    """
    path = f"{BLOBS}/{checked_name(name, 'blob')}"
    with storage.write(path) as stream:
        stream.write(content)
    return WrittenFile(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


class _Hashed:
    """A stream that knows the size and checksum of what it was given.

    Of what was given and not of what lies on the disk, where it may have been damaged already.
    """

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.n_bytes, self.digest = 0, hashlib.sha256()

    def write(self, content: bytes) -> int:
        """Pass on and note some bytes."""
        self.n_bytes += len(content)
        self.digest.update(content)
        return self._stream.write(content)


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    """Turn finished shards into a data set: the last thing that a writer does."""
    with storage.write(MANIFEST) as stream:
        stream.write(manifest.to_json())
