"""Arrays as binary columns, and back, without a copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from giblet_ray.parts.value import ValueType


def as_arrays(values: pa.FixedSizeBinaryArray, kind: ValueType) -> np.ndarray:
    """View a binary column as an array (rows, *shape), without a copy.

    Rows that are null hold undefined numbers.
    """
    buffer = values.buffers()[1]
    flat = np.frombuffer(buffer, dtype=kind.numpy)
    size = kind.nbytes // kind.numpy.itemsize
    rows = flat[values.offset * size : (values.offset + len(values)) * size]
    return rows.reshape(len(values), *kind.shape)


def as_binary(values: np.ndarray) -> pa.FixedSizeBinaryArray:
    """Return an array (rows, ...) as a binary column of one value per row."""
    values = np.ascontiguousarray(values)
    nbytes = values.nbytes // len(values)
    buffer = pa.py_buffer(values.reshape(-1).view(np.uint8))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(nbytes), len(values), [None, buffer])
