"""Which numbers of a scan can be used: TRs without any are masked, units with a bad one counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[int, int], ...]
"""TRs [start, stop), ..., in ascending order."""


@dataclass(frozen=True)
class BadUnits:
    """Units that no model can be trained on or judged by; they are counted, and stay."""

    nan: int
    """With a NaN or infinite value at a TR that is not masked."""
    constant: int
    """With the same finite value at every TR that is not masked."""


def empty_trs(bold_TV: NDArray[np.floating[Any]]) -> Ranges:
    """Return the TRs at which no unit has a finite value, as of a volume that was scrubbed."""
    return stretches(~np.isfinite(bold_TV).any(axis=1))


def stretches(mask_T: NDArray[np.bool_]) -> Ranges:
    """Return where a mask of TRs is true."""
    outside = np.zeros(1, bool)
    within = np.concatenate([outside, mask_T, outside])
    edges = np.flatnonzero(within[1:] != within[:-1]).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def unmasked(n_trs: int, masked_trs: Ranges) -> NDArray[np.bool_]:
    """Return whether each of a scan's TRs can be used, shape (n_trs,)."""
    usable = np.ones(n_trs, bool)
    for start, stop in masked_trs:
        usable[start:stop] = False
    return usable


def find_bad_units(
    blocks: Iterable[NDArray[np.floating[Any]]],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the units with non-finite values, (V,), and the finite ones without variance, (V,).

    Parameters
    ----------
    blocks : iterable of ndarray, shape (TRs, V)
        All TRs that can be used, in any pieces.
    """
    first_V: NDArray[Any] | None = None
    finite_V = same_V = np.array(True)
    for bold_TV in blocks:
        if len(bold_TV):
            first_V = bold_TV[0].copy() if first_V is None else first_V
            finite_V = finite_V & np.isfinite(bold_TV).all(axis=0)
            same_V = same_V & (bold_TV == first_V).all(axis=0)
    return ~finite_V, finite_V & same_V


def count_bad_units(blocks: Iterable[NDArray[np.floating[Any]]]) -> BadUnits:
    """Count what :func:`find_bad_units` finds."""
    broken_V, constant_V = find_bad_units(blocks)
    return BadUnits(int(broken_V.sum()), int(constant_V.sum()))
