"""Delayed vectors and their kernels, without a copy per delay.

The kernel of delayed vectors is a sum of shifted kernels of the vectors themselves::

    X of films a, b, two delays          delayed rows: x(t), x(t - 1)
    . a0 a1 a2 . b0 b1                   K_delayed(t, s) = K(t, s) + K(t - 1, s - 1)
    ^          ^ rows of zeros, as many as the longest delay: before a film there is nothing

Shapes: G rows of all films one after another, each behind its rows of zeros; F numbers of a vector;
N rows of BOLD; L delays; V units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def lay_out(films: Mapping[str, Tensor], longest: int) -> tuple[Tensor, dict[str, int]]:
    """Put films one after another.

    Parameters
    ----------
    films : mapping of str to Tensor
        (TRs, F) vectors of each film; 0 where unknown.
    longest : int
        The longest delay (TRs).

    Returns
    -------
    rows_GF : Tensor
        All films.
    first : dict of str to int
        Row of each film's first TR.
    """
    rows, first, start = [], {}, 0
    for name, film_TF in films.items():
        rows += [film_TF.new_zeros(longest, film_TF.shape[1]), film_TF]
        first[name] = start + longest
        start += longest + len(film_TF)
    return torch.cat(rows), first


def delayed_kernel(rows_GF: Tensor, delays: Sequence[int]) -> Tensor:
    """Return the linear kernel (G, G) of delayed vectors: the sum of what each delay gives."""
    kernel_GG = rows_GF @ rows_GF.T
    delayed_GG = torch.zeros_like(kernel_GG)
    n = len(rows_GF)
    for delay in delays:
        delayed_GG[delay:, delay:] += kernel_GG[: n - delay, : n - delay]
    return delayed_GG


def primal_weights(rows_GF: Tensor, delays: Sequence[int], at_N: Tensor, dual_NV: Tensor) -> Tensor:
    """Return the weights (V, L, F) of delayed vectors that weights of rows amount to.

    Parameters
    ----------
    rows_GF : Tensor
        As :func:`lay_out` gives them.
    delays : sequence of int
        In TRs.
    at_N : Tensor
        (N,) int64, the row of `rows_GF` that each row of BOLD is at; several may be at one.
    dual_NV : Tensor
        Weight of each row of BOLD.
    """
    n = len(rows_GF)
    dual_GV = dual_NV.new_zeros(n, dual_NV.shape[1]).index_add_(0, at_N, dual_NV)
    weights = [dual_GV[delay:].T @ rows_GF[: n - delay] for delay in delays]
    return torch.stack(weights, dim=1)


def delayed(vectors_BTF: Tensor, delays: Sequence[int], n_trs: int) -> Tensor:
    """Return the last `n_trs` TRs of windows with their delayed vectors, (B, n_trs, L, F)."""
    last = vectors_BTF.shape[1]
    shifted = [vectors_BTF[:, last - n_trs - delay : last - delay] for delay in delays]
    return torch.stack(shifted, dim=2)
