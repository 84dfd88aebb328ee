"""Rows of shared blocks, found by (stimulus, TR) and copied into batches.

Blocks lie in a node's object store; every process of the node maps the same pages. What a worker
holds is numpy views of them, and the only copy is that of a batch's rows into its own buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.reader import Span, as_arrays, bold_column
from giblet_ray.dataset.schema import ValueType
from giblet_ray.dataset.windows import Run, Windows
from giblet_ray.errors import InputError

Views = dict[str, np.ndarray]
"""Column name -> view (rows, *shape) of one block."""


def block_views(batch: pa.RecordBatch, kinds: Mapping[str, ValueType]) -> Views:
    """View every value column of a block as an array, without a copy."""
    return {name: as_arrays(batch.column(name), kind) for name, kind in kinds.items()}


class HeldRows:
    """All rows of the chosen stimuli, in blocks as they were read, BOLD without lag.

    Parameters
    ----------
    blocks : iterable of Table
        What :func:`giblet_ray.dataset.source.read_shards` gave, in any order and size.
    kinds : mapping of str to ValueType
        The value columns.
    runs : sequence of Run
        What a window's run index means.
    n_trs : mapping of str to int
        TRs of each stimulus.

    Raises
    ------
    InputError
        If a TR of a run is in no block.
    """

    def __init__(
        self,
        blocks: Iterable[pa.Table],
        kinds: Mapping[str, ValueType],
        runs: Sequence[Run],
        n_trs: Mapping[str, int],
    ) -> None:
        self._runs = list(runs)
        self._parts = [name for name in kinds if "/" not in name]
        self._views: list[Views] = []
        # (block, row) of each TR; -1 until it has been found.
        self._where = {name: np.full((n, 2), -1, np.int32) for name, n in n_trs.items()}
        for block in blocks:
            for batch in block.to_batches():
                names = np.asarray(batch.column("stimulus").cast(pa.string()).to_pylist())
                trs = batch.column("tr").to_numpy()
                for name in np.unique(names):
                    rows = np.flatnonzero(names == name)
                    self._where[name][trs[rows], 0] = len(self._views)
                    self._where[name][trs[rows], 1] = rows
                self._views.append(block_views(batch, kinds))
        for run in runs:
            if missing := int((self._where[run.stimulus][:, 0] < 0).sum()):
                raise InputError(f"stimulus {run.stimulus}: {missing} TRs are missing when read")

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
        """
        offsets = np.arange(windows.shape[1])
        stimulus_rows: list[list[int]] = []
        bold_rows: list[list[int]] = []
        subjects: list[str] = []
        for index, start in zip(windows.run.tolist(), windows.start.tolist(), strict=True):
            run = self._runs[index]
            where = self._where[run.stimulus]
            stimulus_rows += where[start + offsets].tolist()
            bold_rows += where[start + lag_trs + offsets].tolist()
            subjects += [bold_column(run.subject)] * len(offsets)
        for part in self._parts:
            target = _flat(out[part])
            for row, (block, source) in enumerate(stimulus_rows):
                view = self._views[block][part][source]
                target[row] = view[: target.shape[1]] if part == "codes" else view
        target = _flat(out["bold"])
        for row, ((block, source), column) in enumerate(zip(bold_rows, subjects, strict=True)):
            target[row] = self._views[block][column][source]


class StreamedRows:
    """The rows of a few spans at a time, BOLD shifted by the lag when read.

    A window belongs to the span that it begins in; a span reaches far enough past its row group
    for the windows that begin there.
    """

    def __init__(self, kinds: Mapping[str, ValueType], runs: Sequence[Run]) -> None:
        self._kinds, self._runs = kinds, list(runs)
        self._parts = [name for name in kinds if "/" not in name]
        self._held: dict[Span, Views] = {}

    def __contains__(self, span: Span) -> bool:
        return span in self._held

    def add(self, span: Span, block: pa.Table) -> None:
        """Hold the rows of a span."""
        (batch,) = block.combine_chunks().to_batches()
        self._held[span] = block_views(batch, self._kinds)

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
        for row, (index, start, length, span) in enumerate(
            zip(
                windows.run.tolist(),
                windows.start.tolist(),
                windows.length.tolist(),
                spans,
                strict=True,
            )
        ):
            views = self._held[span]
            trs = slice(start - span.start, start - span.start + length)
            for part in self._parts:
                out[part][row] = views[part][trs]
            out["bold"][row] = views[bold_column(self._runs[index].subject)][trs]


def _flat(buffer: np.ndarray) -> np.ndarray:
    """View a buffer (n, W, ...) as (n * W, ...)."""
    return buffer.reshape(-1, *buffer.shape[2:])
