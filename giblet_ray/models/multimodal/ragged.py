"""Rows that exist, out of windows of which some rows do not, and back into their places.

Shapes: B windows of T TRs, N rows that exist.
"""

from __future__ import annotations

import torch
from torch import Tensor


def existing(values: Tensor, there: Tensor | None) -> Tensor:
    """Return the rows (N, ...) of windows (B, T, ...) that are there, (B, T) bool; None: all."""
    return values.flatten(0, 1) if there is None else values[there]


def reached(exists_BT: Tensor, span: int) -> Tensor:
    """Return which rows see one that exists, themselves or up to `span` before: (B, T - span)."""
    return exists_BT.unfold(1, span + 1, 1).any(-1)


def spread(rows: Tensor, shape: torch.Size, there: Tensor | None) -> Tensor:
    """Return rows (N, D) in their places of windows (B, T, D); 0 where there is none."""
    if there is not None:
        nothing = rows.new_zeros(shape.numel(), rows.shape[1])
        rows = nothing.masked_scatter(there.flatten()[:, None], rows)
    return rows.unflatten(0, tuple(shape))
