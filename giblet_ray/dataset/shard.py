"""The rows of one shard, compared with the manifest as they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import row_group_checksum, shard_schema
from giblet_ray.dataset.retry import is_of_storage, retried
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Shard
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType


@dataclass(frozen=True)
class ShardContent:
    """What the manifest says of a shard.

    Attributes
    ----------
    kind : ValueType
        Dtype and shape of a row's value.
    labels : dict of str
        Part, stimulus, subject.
    n_trs : int
        TRs in the file.
    row_group_trs : int
        TRs per row group; the last one may have fewer.
    """

    kind: ValueType
    labels: dict[str, str]
    n_trs: int
    row_group_trs: int

    def row_group(self, group: int) -> slice:
        """Return the TRs of a row group."""
        first = group * self.row_group_trs
        return slice(first, min(first + self.row_group_trs, self.n_trs))


def read_trs(
    storage: Storage, shard: Shard, content: ShardContent, start: int, stop: int
) -> pa.FixedSizeBinaryArray:
    """Read the values of TRs [start, stop).

    Whole row groups are read, and what comes out is compared with its checksum in the manifest:
    whatever has become of the file since it was written, it gives these numbers or an error.

    Raises
    ------
    InputError
        If the file is not what the manifest says, or damaged, or gone, or cannot be read.
    """
    where = storage.describe(shard.path)
    step = content.row_group_trs
    groups = range(start // step, (stop - 1) // step + 1)
    try:
        table = retried(lambda: _read_row_groups(storage, shard, content, groups), where)
        trs_T, values = _verified(table, shard, content, groups)
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file; run precompute again") from error
    except _OtherContentError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{where}: changed since the data set was made, or damaged: {reason}; "
            "run precompute again"
        ) from error
    return values.slice(start - int(trs_T[0]), stop - start)


class _OtherContentError(Exception):
    """A file holds something else than the manifest says."""


def _read_row_groups(
    storage: Storage, shard: Shard, content: ShardContent, groups: range
) -> pa.Table:
    """Decode some row groups into one chunk; any way of failing to is other content."""
    with storage.open(shard.path) as stream:
        try:
            # Over a network, requests are joined and made in advance.
            file = pq.ParquetFile(stream, pre_buffer=not storage.is_local)
            _check_metadata(file, content, groups)
            # Decoding of fixed-size binary is a copy: threads within a read task gain nothing.
            table = file.read_row_groups(groups, columns=["tr", "value"], use_threads=False)
            return table.combine_chunks()
        except OSError as error:
            if is_of_storage(error):
                raise
            raise _OtherContentError(error) from error
        except (pa.ArrowException, IndexError, ValueError) as error:
            raise _OtherContentError(error) from error


def _check_metadata(file: pq.ParquetFile, content: ShardContent, groups: range) -> None:
    """Compare what a file is of, and how many rows it has, before memory is taken for them."""
    expected = shard_schema(content.kind, content.labels)
    if not file.schema_arrow.equals(expected, check_metadata=True):
        holds, said = map(_described, (file.schema_arrow, expected))
        raise _OtherContentError(f"it holds {holds}, the manifest says {said}")
    if (n_trs := file.metadata.num_rows) != content.n_trs:
        raise _OtherContentError(f"it has {n_trs} TRs, the manifest says {content.n_trs}")
    for group in groups:
        trs = content.row_group(group)
        found, said = file.metadata.row_group(group).num_rows, trs.stop - trs.start
        if found != said:
            raise _OtherContentError(
                f"its row group {group} has {found} TRs, the manifest says {said}"
            )


def _verified(
    table: pa.Table, shard: Shard, content: ShardContent, groups: range
) -> tuple[np.ndarray, pa.FixedSizeBinaryArray]:
    """Return both columns if they hold what was written."""
    first, stop = content.row_group(groups[0]).start, content.row_group(groups[-1]).stop
    trs_T, values = table["tr"].to_numpy(), table["value"].chunk(0)
    if not np.array_equal(trs_T, np.arange(first, stop)) or values.null_count:
        raise _OtherContentError(f"TRs {first} to {stop - 1} are not all there, in order")
    rows = as_arrays(values, content.kind)
    for group in groups:
        trs = content.row_group(group)
        of_group = slice(trs.start - first, trs.stop - first)
        found = row_group_checksum(trs_T[of_group], rows[of_group])
        if found != (said := shard.row_groups[group]):
            raise _OtherContentError(
                f"the checksum of row group {group} is {found[:12]}, the manifest says {said[:12]}"
            )
    return trs_T, values


def _described(schema: pa.Schema) -> dict[str, str]:
    """Return what a file says that it holds."""
    metadata = dict(schema.metadata or {})
    if "value" in schema.names:
        metadata.update(schema.field("value").metadata or {})
    return {
        name.decode(errors="replace"): said.decode(errors="replace")
        for name, said in metadata.items()
    }
