"""Rows found by (stimulus, TR) and copied into batches.

Rows that are held lie in a node's object store, in blocks that every process of the node maps: a
worker has numpy views of them, and the only copy is that of a batch's rows into its own buffer.
Rows that are streamed pass through the object store, and wait in the worker's own memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType

Views = dict[str, np.ndarray]
"""Column name -> view (rows, *shape) of one block."""


def block_views(batch: pa.RecordBatch, kinds: Mapping[str, ValueType]) -> Views:
    """View every value column of a block as an array, without a copy."""
    return {name: as_arrays(batch.column(name), kind) for name, kind in kinds.items()}


def copied_rows(block: pa.Table, kinds: Mapping[str, ValueType]) -> Views:
    """Copy every value column of a block, once, so that its memory can be let go of.

    A view would keep the block in the object store for as long as a row of it waits for its batch,
    and a full store spills to disk what is read next.
    """
    chunks = [block_views(batch, kinds) for batch in block.to_batches()]
    return {name: np.concatenate([views[name] for views in chunks]) for name in kinds}


class HeldRows:
    """All rows of the chosen stimuli, in blocks as they were read, BOLD without lag.

    Parameters
    ----------
    blocks : iterable of Table
        What :func:`giblet_ray.dataset.source.hold_shards` holds, in any order and size.
    kinds : mapping of str to ValueType
        The value columns.
    scans : sequence of ScanKey
        What a window's scan index means.
    n_trs : mapping of str to int
        TRs of each stimulus.

    Raises
    ------
    InputError
        If a TR of a scan is in no block.
    """

    def __init__(
        self,
        blocks: Iterable[pa.Table],
        kinds: Mapping[str, ValueType],
        scans: Sequence[ScanKey],
        n_trs: Mapping[str, int],
    ) -> None:
        views: list[Views] = []
        # (block, row) of each TR; -1 until it has been found.
        where = {scan.stimulus: np.full((n_trs[scan.stimulus], 2), -1, np.int32) for scan in scans}
        for block in blocks:
            for batch in block.to_batches():
                names = np.asarray(batch.column("stimulus").cast(pa.string()).to_pylist())
                trs = batch.column("tr").to_numpy()
                for name in where.keys() & set(names.tolist()):
                    rows = np.flatnonzero(names == name)
                    where[name][trs[rows], 0] = len(views)
                    where[name][trs[rows], 1] = rows
                views.append(block_views(batch, kinds))
        for name, found in where.items():
            if missing := int((found[:, 0] < 0).sum()):
                raise InputError(f"stimulus {name}: {missing} TRs are missing when read")
        self._parts = {
            name: [of_block[name] for of_block in views] for name in kinds if "/" not in name
        }
        columns = [bold_column(scan.subject, scan.repeat) for scan in scans]
        self._bold = [[of_block[column] for of_block in views] for column in columns]
        self._units_differ = len({kinds[column].shape for column in columns}) > 1
        self._rows = np.concatenate(list(where.values()))
        starts = np.cumsum([0] + [len(found) for found in where.values()])
        first = dict(zip(where, starts.tolist(), strict=False))
        self._first = np.array([first[scan.stimulus] for scan in scans])
        self._n_trs = np.array([n_trs[scan.stimulus] for scan in scans])

    def gather(
        self, windows: Windows, lag_trs: int, context_trs: int, out: Mapping[str, np.ndarray]
    ) -> None:
        """Copy windows into buffers.

        Parameters
        ----------
        windows : Windows
            n windows, of at most W TRs.
        lag_trs, context_trs : int
            The lag, and C; see :meth:`Windows.rows`.
        out : mapping of str to ndarray
            For each part of the stimulus a buffer (n, C + W, *shape), and for ``bold`` one of
            (n, W, units). Where a buffer has fewer entries than the rows, their first are copied.
            Rows that a window does not have (:meth:`Windows.rows`), and units that its subject does
            not have, become 0.

        Raises
        ------
        IndexError
            If a window reaches past the last TR of its stimulus.
        """
        if len(windows) == 0:
            return
        stops = windows.start + windows.length
        if (windows.start < 0).any() or (stops > self._n_trs[windows.scan]).any():
            raise IndexError(f"a window ends at TR {stops.max()}, past its scan")
        trs, exists = windows.rows(lag_trs, context_trs)
        rows = self._places(windows, trs, exists)
        for part, views in self._parts.items():
            n = out[part].shape[2]
            if n < views[0].shape[1]:
                chosen = [views[block][row, :n] for block, row in rows]
            else:
                chosen = [views[block][row] for block, row in rows]
            _stack(chosen, exists, out[part])
        if lag_trs or context_trs:
            trs, exists = windows.bold_rows()
            rows = self._places(windows, trs, exists)
        of_scan = np.repeat(windows.scan, exists.shape[1]).tolist()
        bold = self._bold
        chosen = [bold[scan][block][row] for scan, (block, row) in zip(of_scan, rows, strict=True)]
        _stack(self._widened(chosen, out["bold"]), exists, out["bold"])

    def _widened(self, rows: list[np.ndarray], out: np.ndarray) -> list[np.ndarray]:
        """Give rows of subjects with fewer units than others as many, with zeros at their end."""
        if self._units_differ:
            return [np.pad(row, (0, out.shape[2] - len(row))) for row in rows]
        return rows

    def _places(
        self, windows: Windows, trs: np.ndarray, exists: np.ndarray
    ) -> list[tuple[int, int]]:
        """Return (block, row) of each TR, row by row; any, where there is none."""
        at = self._first[windows.scan][:, None] + np.where(exists, trs, 0)
        return self._rows[at.reshape(-1)].tolist()


class StreamedRows:
    """The rows of a few spans at a time.

    A window belongs to the span of the row group that it begins in; that span reaches far enough
    around its row group for the windows that begin there, their lag and their context.
    """

    def __init__(
        self, parts: Sequence[str], scans: Sequence[ScanKey], lag_trs: int, context_trs: int
    ) -> None:
        self._parts, self._lag_trs, self._context_trs = parts, lag_trs, context_trs
        self._columns = [bold_column(scan.subject, scan.repeat) for scan in scans]
        self._held: dict[Span, Views] = {}

    def add(self, span: Span, rows: Views) -> None:
        """Hold the rows of a span."""
        self._held[span] = rows

    def drop(self, span: Span) -> None:
        """Let go of a span's rows."""
        del self._held[span]

    def gather(
        self, windows: Windows, spans: Sequence[Span], out: Mapping[str, np.ndarray]
    ) -> None:
        """Copy windows into buffers, as :meth:`HeldRows.gather` does.

        Parameters
        ----------
        windows : Windows
            n windows, of at most W TRs.
        spans : sequence of Span
            The span that holds each window.
        out : mapping of str to ndarray
            Buffers (n, C + W, *shape), of ``bold`` (n, W, units).
        """
        if len(windows) == 0:
            return
        trs, exists = windows.rows(self._lag_trs, self._context_trs)
        held = [self._held[span] for span in spans]
        starts = [span.start for span in spans]
        taken = _stretches(trs, exists, starts)
        for part in self._parts:
            n = out[part].shape[2]
            chosen = [views[part][rows, :n] for views, rows in zip(held, taken, strict=True)]
            _join(chosen, exists, out[part])
        trs, exists = windows.bold_rows()
        taken = _stretches(trs, exists, starts)
        columns = [self._columns[scan] for scan in windows.scan.tolist()]
        chosen = [v[column][rows] for v, column, rows in zip(held, columns, taken, strict=True)]
        _join(chosen, exists, out["bold"])


def _stretches(trs: np.ndarray, exists: np.ndarray, starts: Sequence[int]) -> list[slice]:
    """Return the rows of spans, which begin at `starts`, that hold the TRs of each window."""
    first = np.maximum(0, trs[np.arange(len(trs)), exists.argmax(axis=1)] - starts)
    lengths = exists.sum(axis=1).tolist()
    return [slice(row, row + n) for row, n in zip(first.tolist(), lengths, strict=True)]


def _stack(rows: list[np.ndarray], exists: np.ndarray, out: np.ndarray) -> None:
    """Copy rows (*shape) into a buffer (n, W, *shape), in one call: half the time of a loop."""
    np.concatenate(rows, out=out.reshape(-1, *out.shape[3:]))
    if not exists.all():
        out[~exists] = 0


def _join(stretches: list[np.ndarray], exists: np.ndarray, out: np.ndarray) -> None:
    """Copy stretches (TRs, *shape) into a buffer (n, W, *shape), where its rows exist."""
    if exists.all() and all(stretch.shape[1:] == out.shape[2:] for stretch in stretches):
        np.concatenate(stretches, out=out.reshape(-1, *out.shape[2:]))
        return
    out[:] = 0
    for of_window, there, stretch in zip(out, exists, stretches, strict=True):
        of_window[there, : stretch.shape[1]] = stretch
