"""Arrays that users bring: numbers per TR, or per sample with its time, from a file of any kind.

N samples (or TRs), D numbers each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from giblet_ray.errors import InputError
from giblet_ray.features.source import split_source

if TYPE_CHECKING:
    import pyarrow as pa

TIME_COLUMNS = ("time", "onset")
"""Columns of a table that hold each row's time (s)."""


class ArrayFile(NamedTuple):
    """What a file holds."""

    values_ND: np.ndarray
    """float32."""
    times_N: np.ndarray | None
    """Seconds from the film's start, never falling, float64; None: the rows are TRs."""


def read_array(path: str) -> ArrayFile:
    """Read numbers per TR, or per sample with its time in seconds.

    ===================== ============================== =========================================
    file                  values                         times
    ===================== ============================== =========================================
    .npy                  the array                      none: its rows are TRs
    .npz                  ``values``                     ``times``, if there is one
    .h5 .hdf5 .hf5        ``file.h5::key``, or the       ``times`` beside the values, if there is
                          file's ``values``              one
    .tsv .csv .parquet    every other column             the column ``time`` or ``onset``
    ===================== ============================== =========================================

    Raises
    ------
    InputError
        A missing or unreadable file, or one of another kind; values that are not numbers, not
        finite, too large for float32 or not of shape (rows, numbers); times that are not finite,
        fall back or are of another number.
    """
    file, key = split_source(path)
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise InputError(
            f"{file}: extension {file.suffix!r} is not known for an array; accepted: "
            f"{', '.join(_READERS)}"
        )
    if key is not None and read is not _read_hdf5:
        raise InputError(f"{path}: '::' chooses an array of an HDF5 file, and this is none")
    try:
        values, times = read(file, key)
    except InputError:
        raise
    except Exception as error:  # each format's library has its own kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{file}: cannot be read as {file.suffix}: {reason}") from error
    values_ND = _checked_values(path, values)
    return ArrayFile(values_ND, None if times is None else _checked_times(path, times, values_ND))


def _checked_values(path: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path}: holds {values.dtype}, where real numbers are expected")
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            f"{path}: is of shape {tuple(values.shape)}; (TRs or samples, numbers) is expected"
        )
    if not (finite := np.isfinite(values)).all():
        row, column = np.argwhere(~finite)[0]
        raise InputError(f"{path}: row {row}, column {column} (from 0) is {values[row, column]}")
    largest = max(float(values.max()), -float(values.min()))
    if largest > float(np.finfo(np.float32).max):
        raise InputError(f"{path}: holds {largest:.6g}, which float32 cannot hold")
    return np.ascontiguousarray(values, np.float32)


def _checked_times(path: str, times: np.ndarray, values_ND: np.ndarray) -> np.ndarray:
    if times.shape != (len(values_ND),) or times.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: its times are {times.dtype} of shape {times.shape}; one number for each of "
            f"the {len(values_ND)} rows is expected"
        )
    times_N = times.astype(np.float64)
    if not (finite := np.isfinite(times_N)).all():
        row = int(np.argmin(finite))
        raise InputError(f"{path}: the time of row {row} (from 0) is {times_N[row]}")
    if len(falls := np.flatnonzero(np.diff(times_N) < 0)):
        row = int(falls[0]) + 1
        raise InputError(
            f"{path}: the time falls back from {times_N[row - 1]:g} to {times_N[row]:g} s at row "
            f"{row} (from 0); the rows of one film, in order of time, are expected"
        )
    return times_N


# --- kinds of file ----------------------------------------------------------------------------

_Arrays = tuple[np.ndarray, np.ndarray | None]


def _read_npy(file: Path, _: str | None) -> _Arrays:
    return np.load(file, mmap_mode="r", allow_pickle=False), None


def _read_npz(file: Path, _: str | None) -> _Arrays:
    with np.load(file, allow_pickle=False) as arrays:
        return _named_arrays(str(file), arrays)


def _read_hdf5(file: Path, key: str | None) -> _Arrays:
    import h5py

    with h5py.File(file) as opened:
        node = opened if key is None else opened.get(key)
        if node is None:
            has = ", ".join(opened) or "nothing"
            raise InputError(f"{file}::{key}: the file has no {key!r}; it has {has}")
        if isinstance(node, h5py.Group):
            return _named_arrays(f"{file}::{key}" if key else str(file), node)
        times = node.parent.get("times")
        return node[()], None if times is None else times[()]


def _named_arrays(where: str, arrays: Any) -> _Arrays:
    """Return ``values`` and, if there, ``times`` of an archive."""
    names = list(arrays)
    if "values" not in names:
        raise InputError(
            f"{where}: holds {', '.join(map(str, names)) or 'nothing'}; an array 'values' is "
            "expected, and 'times' (s) unless its rows are TRs"
        )
    return arrays["values"][()], arrays["times"][()] if "times" in names else None


def _read_delimited(file: Path, _: str | None) -> _Arrays:
    from pyarrow import csv

    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    table = csv.read_csv(file, parse_options=csv.ParseOptions(delimiter=delimiter))
    for name in table.column_names:
        if _is_number(name):
            raise InputError(f"{file}: the first row holds {name!r}; names of columns are expected")
    return _table_arrays(file, table)


def _read_parquet(file: Path, _: str | None) -> _Arrays:
    from pyarrow import parquet

    return _table_arrays(file, parquet.read_table(file))


def _table_arrays(file: Path, table: pa.Table) -> _Arrays:
    """Return every column but the time's as numbers, and the time's."""
    import pyarrow as pa

    times = [i for i, name in enumerate(table.column_names) if _plain(name) in TIME_COLUMNS]
    if len(times) > 1:
        both = " and ".join(repr(table.column_names[i]) for i in times)
        raise InputError(f"{file}: the columns {both} could each be the time; leave one")
    if table.num_columns == len(times):
        raise InputError(f"{file}: has no column of numbers besides the time")
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not name.strip() or name.startswith("__index_level_"):
            raise InputError(f"{file}: a column is an index without a name; write it without index")
        cells = column.to_pylist() if pa.types.is_string(column.type) or column.null_count else []
        for row, cell in enumerate(cells):
            if cell is None or (isinstance(cell, str) and not _is_number(cell)):
                found = "no number" if cell is None else repr(cell)
                raise InputError(
                    f"{file}: column {name!r} has {found} at row {row} (from 0); numbers are "
                    "expected in every column"
                )
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise InputError(f"{file}: column {name!r} holds {column.type}; numbers are expected")
        columns.append(column.to_numpy())
    values = [column for i, column in enumerate(columns) if i not in times]
    return np.stack(values, axis=1), columns[times[0]] if times else None


def _plain(name: str) -> str:
    """``" Time (s) "`` -> ``"time"``."""
    return name.strip().lower().removesuffix("(s)").strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_READERS: dict[str, Callable[[Path, str | None], _Arrays]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".hf5": _read_hdf5,
    ".tsv": _read_delimited,
    ".csv": _read_delimited,
    ".parquet": _read_parquet,
}
