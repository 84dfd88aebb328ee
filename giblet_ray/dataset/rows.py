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
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.schema import ScanKey, ValueType, bold_column
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError

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
        self._bold = [[of_block[bold_column(scan.subject)] for of_block in views] for scan in scans]
        self._rows = np.concatenate(list(where.values()))
        starts = np.cumsum([0] + [len(found) for found in where.values()])
        first = dict(zip(where, starts.tolist(), strict=False))
        self._first = np.array([first[scan.stimulus] for scan in scans])
        self._n_trs = np.array([n_trs[scan.stimulus] for scan in scans])

    def gather(self, windows: Windows, lag_trs: int, out: Mapping[str, np.ndarray]) -> None:
        """Copy windows into buffers.

        Parameters
        ----------
        windows : Windows
            n windows, all of W TRs.
        lag_trs : int
            Their BOLD lies this many TRs after the stimulus.
        out : mapping of str to ndarray
            For each part of the stimulus, and for ``bold``, a buffer (n, W, *shape). Of codes,
            the first codebooks that fit are copied.

        Raises
        ------
        IndexError
            If a window reaches past the last TR of its stimulus, or its BOLD past the scan's.
        """
        if len(windows) == 0:
            return
        length = windows.shape[1]
        if (windows.start < 0).any() or (
            windows.start + lag_trs + length > self._n_trs[windows.scan]
        ).any():
            raise IndexError(f"a window of {length} TRs with lag {lag_trs} ends past its scan")
        trs = (self._first[windows.scan] + windows.start)[:, None] + np.arange(length)
        rows = self._rows[trs.reshape(-1)].tolist()
        for part, views in self._parts.items():
            if part == "codes":
                n_codebooks = out[part].shape[2]
                chosen = [views[block][row, :n_codebooks] for block, row in rows]
            else:
                chosen = [views[block][row] for block, row in rows]
            _stack(chosen, out[part])
        rows = self._rows[trs.reshape(-1) + lag_trs].tolist() if lag_trs else rows
        of_scan = np.repeat(windows.scan, length).tolist()
        bold = self._bold
        _stack(
            [bold[scan][block][row] for scan, (block, row) in zip(of_scan, rows, strict=True)],
            out["bold"],
        )


class StreamedRows:
    """The rows of a few spans at a time, BOLD shifted by the lag when read.

    A window belongs to the span that it begins in; a span reaches far enough past its row group
    for the windows that begin there.
    """

    def __init__(self, parts: Sequence[str], scans: Sequence[ScanKey]) -> None:
        self._parts, self._scans = parts, list(scans)
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
            n windows, all of W TRs.
        spans : sequence of Span
            The span that holds each window.
        out : mapping of str to ndarray
            Buffers (n, W, *shape).
        """
        if len(windows) == 0:
            return
        stretches = [
            (self._held[span], slice(start - span.start, start - span.start + length))
            for span, start, length in zip(
                spans, windows.start.tolist(), windows.length.tolist(), strict=True
            )
        ]
        for part in self._parts:
            if part == "codes":
                n_codebooks = out[part].shape[2]
                chosen = [views[part][trs, :n_codebooks] for views, trs in stretches]
            else:
                chosen = [views[part][trs] for views, trs in stretches]
            _join(chosen, out[part])
        columns = [bold_column(self._scans[scan].subject) for scan in windows.scan.tolist()]
        chosen = [
            views[column][trs] for column, (views, trs) in zip(columns, stretches, strict=True)
        ]
        _join(chosen, out["bold"])


def _stack(rows: list[np.ndarray], out: np.ndarray) -> None:
    """Copy rows (*shape) into a buffer (n, W, *shape), in one call: half the time of a loop."""
    np.concatenate(rows, out=out.reshape(-1, *out.shape[3:]))


def _join(stretches: list[np.ndarray], out: np.ndarray) -> None:
    """Copy stretches (W, *shape) into a buffer (n, W, *shape)."""
    np.concatenate(stretches, out=out.reshape(-1, *out.shape[2:]))
