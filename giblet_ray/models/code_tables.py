"""A convolution over embedded codes, as sums of what each code of the vocabulary adds at each tap.

::

    one by one   codes -> embedded (B, K*E, T) --*--> weights        every frame is multiplied
    by tables    embedding --*--> weights, a table (K, V, F) of each tap    every code is multiplied
                 codes -> a row of each codebook's table, summed     every frame is looked up

Both are the same sums in another order. There are often more frames in a batch than codes in a
vocabulary, and to look a row up costs less than to multiply it.

Shapes: B rows, K codebooks, T frames, V codes of a codebook, E length of a code's embedding, F
channels of the result, J taps, N = B * T frames of all rows.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, pad

LOOK_UP = 16
"""Multiplications (each with an addition) that take as long on a CPU as to look up a number of a
table and add it; a multiplication runs in the processor, a table lies in memory."""


def tables_pay(n_frames: int, vocab_size: int, embed_dim: int) -> bool:
    """Whether tables take fewer operations than frames one by one, per codebook, channel and tap.

    Parameters
    ----------
    n_frames : int
        N.
    vocab_size, embed_dim : int
        V and E.
    """
    return vocab_size * embed_dim + n_frames * LOOK_UP < n_frames * embed_dim


class CodeRows:
    """Where the codes of a batch stand in tables, for any number of convolutions.

    Parameters
    ----------
    codes_BKT : Tensor
        (B, K, T) int64, all in [0, V).
    vocab_size : int
        V.

    Attributes
    ----------
    rows_NK : Tensor
        Row of each code in a table (K * V, F).
    """

    def __init__(self, codes_BKT: Tensor, vocab_size: int) -> None:
        n_rows, self.n_codebooks, self.n_frames = codes_BKT.shape
        self.shape = n_rows, self.n_frames
        first_K = torch.arange(self.n_codebooks, device=codes_BKT.device) * vocab_size
        self.rows_NK = (codes_BKT + first_K[:, None]).transpose(1, 2).flatten(0, 1)
        self._n_table = self.n_codebooks * vocab_size

    @cached_property
    def by_code(self) -> tuple[Tensor, Tensor]:
        """Frames (N * K,) in the order of their rows in a table, and where each row's begin."""
        rows, order = self.rows_NK.flatten().sort()
        first = torch.searchsorted(rows, torch.arange(self._n_table, device=rows.device))
        return order // self.n_codebooks, first


def convolve_codes(rows: CodeRows, embedding_KVE: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve embedded codes; frames before the first and after the last count as 0.

    Parameters
    ----------
    rows : CodeRows
        Of the codes.
    embedding_KVE : Tensor
        (K, V, E), what each code becomes.
    weight : Tensor
        (F, K * E, J) of a Conv1d, the first E channels those of the first codebook; J is odd.
    bias : Tensor
        (F,).

    Returns
    -------
    Tensor
        (B, F, T), contiguous, whose position t is that of frame t.
    """
    summed_BTF = _Convolved.apply(embedding_KVE, weight, rows) + bias
    convolved_BFT: Tensor = summed_BTF.transpose(1, 2).contiguous()
    return convolved_BFT


class _Convolved(torch.autograd.Function):
    """From embedding (K, V, E) and weights (F, K * E, J) to sums (B, T, F)."""

    @staticmethod
    def forward(ctx: Any, embedding_KVE: Tensor, weight: Tensor, rows: CodeRows) -> Tensor:
        ctx.save_for_backward(embedding_KVE, weight)
        ctx.rows = rows
        weight_JKEF = _by_tap(weight, rows.n_codebooks)
        half, n_frames = len(weight_JKEF) // 2, rows.n_frames
        sums_BTF = weight.new_zeros(*rows.shape, weight.shape[0])
        table_KVF = weight.new_empty(*embedding_KVE.shape[:2], weight.shape[0])
        for tap, weight_KEF in enumerate(weight_JKEF):
            # What is heard `later` frames after a frame adds to that frame.
            later = tap - half
            if abs(later) >= n_frames:
                continue
            torch.bmm(embedding_KVE, weight_KEF, out=table_KVF)
            found = embedding_bag(rows.rows_NK, table_KVF.flatten(0, 1), mode="sum")
            heard_BTF = found.unflatten(0, rows.shape)
            n_both, at, since = n_frames - abs(later), max(0, -later), max(0, later)
            sums_BTF[:, at : at + n_both] += heard_BTF[:, since : since + n_both]
        return sums_BTF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BTF: Tensor) -> tuple[Tensor, Tensor, None]:
        embedding_KVE, weight = ctx.saved_tensors
        rows: CodeRows = ctx.rows
        weight_JKEF = _by_tap(weight, rows.n_codebooks)
        half = len(weight_JKEF) // 2
        frame_M, first = rows.by_code
        # With as many frames of nothing around each row as a kernel reaches, a tap is a shift.
        padded = pad(gradient_BTF, (0, 0, half, half)).flatten(0, 1)
        frame_M = frame_M + frame_M // rows.n_frames * (2 * half)
        of_embedding = torch.zeros_like(embedding_KVE)
        of_weight = torch.empty_like(weight_JKEF)
        for tap, weight_KEF in enumerate(weight_JKEF):
            shifted = padded[2 * half - tap :]
            of_table = embedding_bag(frame_M, shifted, first, mode="sum")
            of_table_KVF = of_table.unflatten(0, embedding_KVE.shape[:2])
            torch.bmm(embedding_KVE.transpose(1, 2), of_table_KVF, out=of_weight[tap])
            of_embedding.baddbmm_(of_table_KVF, weight_KEF.transpose(1, 2))
        return of_embedding, of_weight.permute(3, 1, 2, 0).reshape(weight.shape), None


def _by_tap(weight: Tensor, n_codebooks: int) -> Tensor:
    """Return weights (F, K * E, J) of a convolution as (J, K, E, F)."""
    return weight.unflatten(1, (n_codebooks, -1)).permute(3, 1, 2, 0).contiguous()
