"""What of a data set of random numbers is read, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from random_dataset import PARTS, ROW_GROUP_TRS, SUBJECT

from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.loader import MemoryLoader
from giblet_ray.dataset.order import (
    STREAM_MIX_ROW_GROUPS,
    epoch_batches,
    epoch_order,
    streamed_epoch_order,
)
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import Windows, batch_windows, cut_windows, window_trs
from giblet_ray.parts.value import ValueType

CONTEXT_TRS = 14
"""Context of a window: 20 s, of 1.5 s each."""


@dataclass(frozen=True)
class Plan:
    """What is read and in which order: all that a worker needs beside the blocks."""

    dataset: Dataset
    batch_trs: int

    @property
    def selection(self) -> Selection:
        """All of every row."""
        return Selection(PARTS, (SUBJECT,))

    @property
    def scans(self) -> list[ScanKey]:
        """Both runs."""
        return list(self.dataset.scans)

    @property
    def n_trs(self) -> dict[str, int]:
        """TRs of each stimulus."""
        return self.dataset.bold_trs

    @property
    def kinds(self) -> dict[str, ValueType]:
        """What a batch holds."""
        return {
            **{part: self.dataset.value_type(part) for part in PARTS},
            "bold": self.dataset.value_type(bold_column(SUBJECT)),
        }

    @property
    def window(self) -> int:
        """TRs of a window with context, as a run chooses them."""
        return window_trs(CONTEXT_TRS, self.batch_trs, max(self.n_trs.values()))

    def windows(self, length: int = 1) -> Windows:
        """All TRs in windows."""
        spans = [Span(name, 0, n) for name, n in self.n_trs.items()]
        return cut_windows(spans, self.scans, length)

    def cut(self, order: np.ndarray) -> list[Windows]:
        """Cut an order of single TRs into batches."""
        windows = self.windows()[order]
        return [windows[i : i + self.batch_trs] for i in range(0, len(order), self.batch_trs)]

    def cut_with_context(self, epoch: int) -> list[Windows]:
        """Cut an epoch of windows with context into batches."""
        windows = self.windows(self.window)
        order, size = (
            epoch_order(len(windows), 0, epoch),
            batch_windows(self.batch_trs, self.window),
        )
        return [windows[batch] for batch in epoch_batches(order, size, 1)]

    def hold(self, blocks: Sequence[pa.Table], context_trs: int = 0) -> MemoryLoader:
        """Return the loader over blocks in the object store."""
        columns = self.selection.value_types(self.dataset)
        held = HeldRows(blocks, columns, self.scans, self.n_trs)
        return MemoryLoader(held, self.kinds, 0, torch.device("cpu"), context_trs)

    def stream(self) -> StreamLoader:
        """Return the loader that reads from disk."""
        of = (self.dataset, self.selection, self.kinds, self.scans)
        return StreamLoader(*of, 1, 0, torch.device("cpu"))

    @property
    def n_rows(self) -> int:
        """TRs of all stimuli."""
        return sum(self.n_trs.values())

    def shuffled(self, epoch: int) -> list[Windows]:
        """Return the batches of an epoch whose rows lie in memory."""
        return self.cut(epoch_order(self.n_rows, 0, epoch))

    def shuffled_to_stream(self, epoch: int) -> list[Windows]:
        """Return the batches of an epoch that is streamed."""
        windows = self.windows()
        group = windows.scan.astype(np.int64) * self.n_rows + windows.start // ROW_GROUP_TRS
        return self.cut(streamed_epoch_order(group, STREAM_MIX_ROW_GROUPS, 0, epoch))
