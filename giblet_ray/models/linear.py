"""Linear layers whose weights are read from memory once, where a batch has few rows.

On a CPU the product of a few rows with a large matrix takes as long as the matrix takes to be read;
the BLAS behind torch packs the larger factor of ``rows @ weight.T`` first, which reads it twice and
writes it once. Asked for the same product the other way round, it packs the rows::

    rows @ weight.T     (N, K) @ (K, D)     packs the weight
    weight @ rows.T     (D, K) @ (K, N)     packs the rows: up to twice as fast forwards, and 1.5
                                            times backwards

Shapes: N rows, K numbers of a row, D numbers of a result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LARGE = 2**20
"""Numbers of a weight that no cache holds; of a smaller one both ways take as long."""
_FEW = 16
"""Rows are few where a weight has so many times as many rows and columns: with more, rows and
results, which are written once more to lie as torch's own, weigh as much as the weight."""


class Linear(nn.Linear):
    """A linear layer, (..., K) -> (..., D), as :class:`torch.nn.Linear` is."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return what the layer makes of rows."""
        if self.weight.numel() < _LARGE or not self._is_read_once_for(rows):
            return super().forward(rows)
        results_ND: Tensor = _ByColumns.apply(rows.flatten(0, -2), self.weight, self.bias)
        return results_ND.unflatten(0, rows.shape[:-1])

    def _is_read_once_for(self, rows: Tensor) -> bool:
        on_cpu = self.weight.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        n_rows = rows.shape[:-1].numel()
        return on_cpu and rows.dim() > 1 and n_rows * _FEW <= min(self.weight.shape)


class _ByColumns(torch.autograd.Function):
    """``rows @ weight.T + bias``, found as its transpose."""

    @staticmethod
    def forward(ctx: Any, rows_NK: Tensor, weight_DK: Tensor, bias_D: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows_NK, weight_DK)
        if bias_D is None:
            results_DN = torch.mm(weight_DK, rows_NK.T)
        else:
            results_DN = torch.addmm(bias_D[:, None], weight_DK, rows_NK.T)
        # As it would lie otherwise: what dropout draws depends on that.
        return results_DN.T.contiguous()

    @staticmethod
    def backward(ctx: Any, gradient_ND: Tensor) -> tuple[Tensor | None, ...]:
        rows_NK, weight_DK = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.mm(weight_DK.T, gradient_ND.T).T if of_rows else None,
            torch.mm(gradient_ND.T, rows_NK) if of_weight else None,
            gradient_ND.sum(0) if of_bias else None,
        )
