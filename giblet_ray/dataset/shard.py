"""The rows of one shard, compared with the manifest as they are read.

Values are written as they are, neither packed nor encoded, so that those of a row group lie in one
piece at the end of its page::

    file   | page of tr, page of value: header  r r r r r | ... | footer
                                                ^ places

They are read from there into the memory that they stay in, and compared with their checksum. What
is not found there, in a file of another writer or a damaged one, Parquet's reader looks for, which
takes longer and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import row_group_checksum, shard_schema
from giblet_ray.dataset.retry import is_of_storage, retried
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Shard
from giblet_ray.errors import InputError, one_line
from giblet_ray.parts.value import ValueType


@dataclass(frozen=True)
class ShardContent:
    """What the manifest says of a shard."""

    kind: ValueType
    """Dtype and shape of a row's value."""
    labels: dict[str, str]
    """Part, stimulus, subject."""
    n_trs: int
    """TRs in the file."""
    row_group_trs: int
    """TRs per row group; the last one may have fewer."""

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
        values = retried(lambda: _read_in_place(storage, shard, content, groups), where)
        if values is None:
            table = retried(lambda: _read_row_groups(storage, shard, content, groups), where)
            values = _verified(table, shard, content, groups)
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file; run precompute again") from error
    except _OtherContentError as error:
        raise InputError(
            f"{where}: changed since the data set was made, or damaged: {one_line(error)}; "
            "run precompute again"
        ) from error
    return values.slice(start - groups[0] * step, stop - start)


class _OtherContentError(Exception):
    """A file holds something else than the manifest says."""


_MOST_OVERHEAD = 64
"""Bytes of a page besides its values, at most; of several pages there are more."""

_PLACES: dict[tuple[str, str, int, int, int], list[int]] = {}
"""First byte of the values of each row group, of files that were read before, by what the manifest
says of them. A place that is not, or no longer, right gives bytes of another checksum."""


def _read_in_place(
    storage: Storage, shard: Shard, content: ShardContent, groups: range
) -> pa.FixedSizeBinaryArray | None:
    """Read the bytes of some row groups from where they lie; None if other bytes lie there."""
    row_bytes = content.kind.nbytes
    key = (shard.path, shard.sha256, row_bytes, content.n_trs, content.row_group_trs)
    with storage.open(shard.path) as stream:
        if key not in _PLACES:
            try:
                _PLACES[key] = _places(pq.ParquetFile(stream), content, len(shard.row_groups))
            except OSError as error:
                if is_of_storage(error):
                    raise
                return None
            except (pa.ArrowException, IndexError, ValueError, _OtherContentError):
                return None
        places = _PLACES[key][groups.start : groups.stop]
        if min(places) < 0:
            return None
        first, stop = content.row_group(groups[0]).start, content.row_group(groups[-1]).stop
        buffer = pa.allocate_buffer((stop - first) * row_bytes)
        view, step_bytes = memoryview(buffer).cast("B"), content.row_group_trs * row_bytes
        pieces = [view[i * step_bytes : (i + 1) * step_bytes] for i in range(len(groups))]
        if not (_fill if storage.is_local else _fill_at_once)(stream, places, pieces):
            return None
    values = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(row_bytes), stop - first, [None, buffer]
    )
    trs_T, rows = np.arange(first, stop, dtype=np.int32), as_arrays(values, content.kind)
    is_right = all(
        found == shard.row_groups[group]
        for group, found in _checksums(trs_T, rows, content, groups)
    )
    return values if is_right else None


def _places(file: pq.ParquetFile, content: ShardContent, n_groups: int) -> list[int]:
    """Return where the values of each row group begin; -1 where they are not in one piece."""
    _check_metadata(file, content, range(n_groups))
    places = []
    for group in range(n_groups):
        trs, column = content.row_group(group), file.metadata.row_group(group).column(1)
        nbytes = (trs.stop - trs.start) * content.kind.nbytes
        overhead = column.total_compressed_size - nbytes
        is_plain = column.compression == "UNCOMPRESSED" and 0 <= overhead <= _MOST_OVERHEAD
        places.append(column.data_page_offset + overhead if is_plain else -1)
    return places


def _fill(stream: pa.NativeFile, places: list[int], pieces: list[memoryview]) -> bool:
    """Read pieces of a file, each from its place; False if the file ends before that."""
    for place, piece in zip(places, pieces, strict=True):
        stream.seek(place)
        if stream.readinto(piece) < len(piece):
            return False
    return True


def _fill_at_once(stream: pa.NativeFile, places: list[int], pieces: list[memoryview]) -> bool:
    """Do the same over a network: one request brings all, and the little that lies between."""
    n_bytes = places[-1] + len(pieces[-1]) - places[0]
    content = memoryview(stream.read_at(n_bytes, places[0]))
    if len(content) < n_bytes:
        return False
    for place, piece in zip(places, pieces, strict=True):
        piece[:] = content[place - places[0] :][: len(piece)]
    return True


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
) -> pa.FixedSizeBinaryArray:
    """Return the values if both columns hold what was written."""
    first, stop = content.row_group(groups[0]).start, content.row_group(groups[-1]).stop
    trs_T, values = table["tr"].to_numpy(), table["value"].chunk(0)
    if not np.array_equal(trs_T, np.arange(first, stop)) or values.null_count:
        raise _OtherContentError(f"TRs {first} to {stop - 1} are not all there, in order")
    rows = as_arrays(values, content.kind)
    for group, found in _checksums(trs_T, rows, content, groups):
        if found != (said := shard.row_groups[group]):
            raise _OtherContentError(
                f"the checksum of row group {group} is {found[:12]}, the manifest says {said[:12]}"
            )
    return values


def _checksums(
    trs_T: np.ndarray, rows: np.ndarray, content: ShardContent, groups: range
) -> Iterator[tuple[int, str]]:
    """Yield each row group and the checksum of its part of consecutive rows."""
    for group in groups:
        trs = content.row_group(group)
        of_group = slice(trs.start - int(trs_T[0]), trs.stop - int(trs_T[0]))
        yield group, row_group_checksum(trs_T[of_group], rows[of_group])


def _described(schema: pa.Schema) -> dict[str, str]:
    """Return what a file says that it holds."""
    metadata = dict(schema.metadata or {})
    if "value" in schema.names:
        metadata.update(schema.field("value").metadata or {})
    return {
        name.decode(errors="replace"): said.decode(errors="replace")
        for name, said in metadata.items()
    }
