"""EnCodec's own vectors of its codes, as a data set keeps them beside codes."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.features.codes import CODEBOOK_SIZE

CODEBOOKS = "codebooks"
"""Name of their file."""
CODE_NUMBERS = 128
"""Numbers of a code's vector, of EnCodec at 24 kHz."""


def read_codebooks(content: bytes, n: int, part: str) -> Tensor:
    """Return the vectors of the codes of the first n codebooks, (n * 1024, 128) float32.

    Parameters
    ----------
    content : bytes
        An .npy file of (n or more, 1024, 128).
    n : int
        Codebooks that are read.
    part : str
        Whose codes they are, for messages.

    Raises
    ------
    InputError
        If they are not EnCodec's.
    """
    codebooks = np.load(io.BytesIO(content), allow_pickle=False)
    if codebooks.shape[1:] != (CODEBOOK_SIZE, CODE_NUMBERS) or len(codebooks) < n:
        raise InputError(
            f"{part}/: its codebooks have shape {codebooks.shape}; {n} or more of "
            f"({CODEBOOK_SIZE}, {CODE_NUMBERS}) are accepted"
        )
    return torch.from_numpy(codebooks[:n]).flatten(0, 1).float()
