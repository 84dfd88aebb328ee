"""Rows that lie in any number of blocks, gathered as from one tensor, by native code.

Held blocks are memory of this process, which the object store shares: a row is a place in it. One
tensor views all that memory, and its row p begins p units after the first block does::

    memory      ...[block 1  r r r r r]........[block 0  r r r r]...[a row of zeros]...
    tensor      |--------------------------------------------------------------|
    places                     ^ of a row, in units of at most 8 bytes

so that a batch is one ``index_select``, however many blocks its rows come from: no object per row,
and no second copy of the data to have it in one piece, which the object store could only be given
by whoever holds it all.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np
import torch

_UNITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What rows are copied as, by bytes: the wider, the faster."""


class ScatteredRows:
    """Rows in some arrays, alike but for how many entries those of an array have.

    Parameters
    ----------
    arrays : sequence of ndarray
        (rows, entries, ...) each, contiguous, of one dtype; kept for as long as this is.
    where : ndarray of int, shape (n, 2)
        Array, and row of it, of each of the n rows.
    """

    def __init__(self, arrays: Sequence[np.ndarray], where: np.ndarray) -> None:
        widest = max(arrays, key=lambda array: array.shape[1])
        self._arrays = [*arrays, np.zeros((1, *widest.shape[1:]), widest.dtype)]
        array, row = np.append(where, [[len(arrays), 0]], axis=0).astype(np.int64).T
        row_bytes = np.array([each.strides[0] for each in self._arrays])
        addresses = np.array([each.ctypes.data for each in self._arrays])[array]
        addresses += row * row_bytes[array]
        # One that divides any number of a row's entries as well.
        unit = math.gcd(8, widest.strides[1], int(np.gcd.reduce(addresses)))
        first = int(addresses.min())
        span = int((addresses + row_bytes[array]).max()) - first
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * span).from_address(first))
        self._memory = torch.from_numpy(memory).view(_UNITS[unit])
        self._places = torch.from_numpy((addresses - first) // unit)

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows into a buffer.

        Parameters
        ----------
        rows : ndarray of int
            Which rows, in the order of the buffer's; -1: zeros.
        out : ndarray
            Contiguous, of as many rows, all of so many entries; of rows that have more, the first
            are copied.
        """
        n = rows.size
        if not n:
            return
        taken = torch.from_numpy(out).view(n, -1).view(self._memory.dtype)
        width = taken.shape[1]
        overlapping = self._memory.as_strided((len(self._memory) - width + 1, width), (1, 1))
        places = self._places[torch.from_numpy(rows.reshape(-1))]
        torch.index_select(overlapping, 0, places, out=taken)
