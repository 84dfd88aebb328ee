"""Rows found by (stimulus, TR) and copied into batches.

Rows that are held lie in a node's object store, in blocks that every process of the node maps: a
worker has views of them, and the only copy is that of a batch's rows into its own buffer.
Rows that are streamed wait in the worker's own memory.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.scattered import ScatteredRows
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType

_K = TypeVar("_K")
Views = dict[str, np.ndarray]
"""Column name -> view (rows, *shape) of one block."""


def block_views(batch: pa.RecordBatch, kinds: Mapping[str, ValueType]) -> Views:
    """View every value column of a block as an array, without a copy."""
    return {name: as_arrays(batch.column(name), kind) for name, kind in kinds.items()}


class HeldRows:
    """All rows of the chosen stimuli, in blocks as they were read, BOLD without lag.

    Attributes
    ----------
    n_phases : dict of str to int
        Phases of each stimulus.

    Parameters
    ----------
    blocks : iterable of Table
        What :func:`giblet_ray.dataset.source.hold_shards` holds, in any order and size.
    kinds : mapping of str to ValueType
        The value columns.
    scans : sequence of ScanKey
        What a window's scan index means.
    n_trs : mapping of str to int
        TRs of each stimulus that have rows.

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
        # (block, row) of each TR of a stimulus at a phase; -1 until it has been found.
        films = dict.fromkeys(scan.stimulus for scan in scans)
        where = {(name, 0): np.full((n_trs[name], 2), -1, np.int32) for name in films}
        for block in blocks:
            for batch in block.to_batches():
                names = np.asarray(batch.column("stimulus").cast(pa.string()).to_pylist())
                trs, phases = (batch.column(name).to_numpy() for name in ("tr", "phase"))
                for name, phase in {*zip(names.tolist(), phases.tolist(), strict=True)}:
                    if name in films:
                        new = np.full((n_trs[name], 2), -1, np.int32)
                        found = where.setdefault((name, phase), new)
                        rows = np.flatnonzero((names == name) & (phases == phase))
                        found[trs[rows], 0] = len(views)
                        found[trs[rows], 1] = rows
                views.append(block_views(batch, kinds))
        for (name, _), found in where.items():
            if missing := int((found[:, 0] < 0).sum()):
                raise InputError(f"stimulus {name}: {missing} TRs are missing when read")
        self._n_trs = np.array([n_trs[scan.stimulus] for scan in scans])
        rows = np.concatenate(list(where.values()))
        self._parts = {
            name: ScatteredRows([of_block[name] for of_block in views], rows)
            for name in kinds
            if "/" not in name
        }
        of_film = starts({film: len(found) for film, found in where.items()})
        self.n_phases = dict(Counter(name for name, _ in where))
        # First row of each scan's stimulus at each of its phases.
        phases = range(max(self.n_phases.values()))
        self._first = np.array(
            [[of_film.get((scan.stimulus, phase), 0) for phase in phases] for scan in scans]
        )
        # BOLD of one scan after another, from the blocks of one column after another.
        columns = [bold_column(scan.subject, scan.repeat) for scan in scans]
        of_column = starts(dict.fromkeys(columns, len(views)))
        arrays = [of_block[column] for column in of_column for of_block in views]
        rows_of_scans = [
            where[scan.stimulus, 0] + [of_column[column], 0]
            for scan, column in zip(scans, columns, strict=True)
        ]
        self._bold = ScatteredRows(arrays, np.concatenate(rows_of_scans))
        of_scan = starts({scan: n_trs[scan.stimulus] for scan in scans})
        self._first_bold = np.array([of_scan[scan] for scan in scans])
        self._n_units = np.array([kinds[column].shape[0] for column in columns])

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
            For each that is wanted of the stimulus's parts a buffer (n, C + W, *shape), and for
            ``bold`` one of (n, W, units). Where a buffer has fewer entries than the rows, their
            first are copied. Rows that a window does not have (:meth:`Windows.rows`), and units
            that its subject does not have, become 0.

        Raises
        ------
        IndexError
            If a window reaches past the last row of its stimulus.
        """
        if len(windows) == 0:
            return
        stops = windows.start + windows.length
        if (windows.start < 0).any() or (stops > self._n_trs[windows.scan]).any():
            raise IndexError(f"a window ends at TR {stops.max()}, past its scan")
        trs, exists = windows.rows(lag_trs, context_trs)
        first = self._first[windows.scan, windows.phase]
        rows = np.where(exists, first[:, None] + trs, -1)
        for part in out.keys() & self._parts.keys():
            self._parts[part].take(rows, out[part])
        if "bold" not in out:
            return
        trs, exists = windows.bold_rows()
        rows = np.where(exists, self._first_bold[windows.scan][:, None] + trs, -1)
        bold, n_units = out["bold"], self._n_units[windows.scan]
        if (n_units == bold.shape[2]).all():
            self._bold.take(rows, bold)
            return
        bold[:] = 0
        for n in np.unique(n_units):
            of_size = np.flatnonzero(n_units == n)
            taken = np.empty((len(of_size), rows.shape[1], n), bold.dtype)
            self._bold.take(rows[of_size], taken)
            bold[of_size, :, :n] = taken


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
        for part in out.keys() & set(self._parts):
            n = out[part].shape[2]
            chosen = [views[part][rows, :n] for views, rows in zip(held, taken, strict=True)]
            _join(chosen, exists, out[part])
        if "bold" not in out:
            return
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


def starts(lengths: Mapping[_K, int]) -> dict[_K, int]:
    """Return where each of some consecutive pieces begins."""
    ends = itertools.accumulate(lengths.values(), initial=0)
    return dict(zip(lengths, ends, strict=False))


def _join(stretches: list[np.ndarray], exists: np.ndarray, out: np.ndarray) -> None:
    """Copy stretches (TRs, *shape) into a buffer (n, W, *shape), where its rows exist."""
    if exists.all() and all(stretch.shape[1:] == out.shape[2:] for stretch in stretches):
        np.concatenate(stretches, out=out.reshape(-1, *out.shape[2:]))
        return
    out[:] = 0
    for of_window, there, stretch in zip(out, exists, stretches, strict=True):
        of_window[there, : stretch.shape[1]] = stretch
