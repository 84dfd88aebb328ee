"""Delayed vectors and their kernels, without a copy of all delays.

The kernel of delayed vectors is the sum of what each delay gives::

    K(t, s) = sum over delays d of  x(t - d) @ x(s - d)

Shapes: G rows of all films one after another, each behind as many rows of zeros as the longest
delay has TRs: before a film there is nothing; F numbers of a vector; N rows of BOLD; L delays; V
units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def delayed_kernel(rows_GF: Tensor, delays: Sequence[int], at_N: Tensor) -> Tensor:
    """Return the linear kernel (N, N) of delayed vectors.

    Parameters
    ----------
    rows_GF : Tensor
        Vectors of all films.
    delays : sequence of int
        In TRs.
    at_N : Tensor
        (N,) int64, the row of `rows_GF` that each row of BOLD is at; several may be at one.
    """
    kernel_NN = rows_GF.new_zeros(len(at_N), len(at_N))
    for delay in delays:
        delayed_NF = rows_GF[at_N - delay]
        kernel_NN.addmm_(delayed_NF, delayed_NF.T)
    return kernel_NN


def primal_weights(rows_GF: Tensor, delays: Sequence[int], at_N: Tensor, dual_NV: Tensor) -> Tensor:
    """Return the weights (V, L, F) of delayed vectors that weights of rows amount to.

    Parameters
    ----------
    rows_GF, delays, at_N
        As :func:`delayed_kernel` takes them.
    dual_NV : Tensor
        Weight of each row of BOLD.
    """
    return torch.stack([dual_NV.T @ rows_GF[at_N - delay] for delay in delays], dim=1)


def delayed(vectors_BTF: Tensor, delays: Sequence[int], n_trs: int) -> Tensor:
    """Return the last `n_trs` TRs of windows with their delayed vectors, (B, n_trs, L, F)."""
    last = vectors_BTF.shape[1]
    shifted = [vectors_BTF[:, last - n_trs - delay : last - delay] for delay in delays]
    return torch.stack(shifted, dim=2)
