"""The type of one row's value."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from giblet_ray.settings import Group

if TYPE_CHECKING:
    import pyarrow as pa


class ValueType(Group):
    """Shape and dtype of the array in every row of one part of the data set."""

    dtype: Literal["uint8", "int16", "float16", "float32"]
    """Number format, little-endian."""
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Shape of one TR's array."""

    def __str__(self) -> str:
        return f"{self.dtype}({' x '.join(map(str, self.shape))})"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype as numpy has it."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of one TR's array."""
        return self.numpy.itemsize * math.prod(self.shape)

    def field(self, name: str) -> pa.Field:
        """Return the Arrow field of a column of such arrays."""
        import pyarrow as pa

        metadata = {"dtype": self.dtype, "shape": json.dumps(self.shape)}
        return pa.field(name, pa.binary(self.nbytes), metadata=metadata)
