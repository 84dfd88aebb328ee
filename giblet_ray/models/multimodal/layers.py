"""Layers over TRs that share the context: each reaches back some TRs, all of them C together.

::

    TRs that the layers see, C = 5 in two layers
    bottleneck   |--|--|--|--|--|==|==|==|        C + W
    layer 1               |--|--|==|==|==|        reaches back 3 TRs, and leaves so many fewer
    layer 2                     |==|==|==|        reaches back 2: the W of the window

What a TR becomes depends on itself and the C before it alone, so that a film predicted in pieces
is the film predicted whole. Rows that do not exist are 0 before each layer; after a film's end
they are what a layer finds in those before them, and exist for the next.

Shapes: B windows, C TRs of context, W TRs of a window, T TRs that a layer is given, S TRs that it
reaches back, D numbers of the bottleneck, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from giblet_ray.models.linear import Linear
from giblet_ray.models.multimodal.ragged import reached

HIDDEN_TIMES = 2
"""Width of an attention layer's hidden layer, in D."""


def spans_of(context_trs: int, n_layers: int) -> list[int]:
    """Return the TRs that each of some layers reaches back, those of all context together."""
    return [context_trs // n_layers + (index < context_trs % n_layers) for index in range(n_layers)]


class Layers(nn.Module):
    """Layers one after another, and a LayerNorm.

    Parameters
    ----------
    layers : sequence of Convolution or Attention
        Each from (B, T, D) and (B, T) bool to (B, T - span, D).
    n_inputs : int
        D.

    Attributes
    ----------
    n_features : int
        D.
    """

    def __init__(self, layers: Sequence[Convolution | Attention], n_inputs: int) -> None:
        super().__init__()
        self.n_features = n_inputs
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(n_inputs)

    def forward(self, bottleneck_BTD: Tensor, exists_BT: Tensor) -> Tensor:
        """Return (B, W, D) of the bottleneck (B, C + W, D), and of which of its rows exist."""
        x_BTD = bottleneck_BTD
        for layer in self.layers:
            x_BTD = layer(x_BTD, exists_BT)
            exists_BT = reached(exists_BT, exists_BT.shape[1] - x_BTD.shape[1])
        normed: Tensor = self.norm(x_BTD)
        return normed


class Convolution(nn.Module):
    """A causal convolution of each number apart, then a linear layer of all, beside what was there.

    Parameters
    ----------
    n_inputs : int
        D.
    span : int
        S.
    dropout : float
        Rate before they are added.
    """

    def __init__(self, n_inputs: int, span: int, dropout: float) -> None:
        super().__init__()
        self.span = span
        self.norm = nn.LayerNorm(n_inputs)
        self.taps = nn.Conv1d(n_inputs, n_inputs, span + 1, groups=n_inputs)
        self.mix = nn.Sequential(nn.GELU(), Linear(n_inputs, n_inputs), nn.Dropout(dropout))

    def forward(self, x_BTD: Tensor, exists_BT: Tensor) -> Tensor:
        """Return (B, T - S, D)."""
        there_BT1 = exists_BT[..., None]
        past_BTD = self.norm(x_BTD) * there_BT1
        taken_BTD = self.taps(past_BTD.transpose(1, 2)).transpose(1, 2)
        there_BT1 = reached(exists_BT, self.span)[..., None]
        return (x_BTD[:, self.span :] + self.mix(taken_BTD)) * there_BT1


class Attention(nn.Module):
    """Causal attention with a learned bias for each distance, then a hidden layer.

    Parameters
    ----------
    n_inputs : int
        D, a multiple of `n_heads`.
    n_heads : int
        H.
    span : int
        S.
    dropout : float
        Rate before what they find is added to what was there.

    Attributes
    ----------
    distance_HS : Tensor
        (H, S + 1), added to a pair's score by how many TRs the one lies before the other; at first
        each head looks about a delay of its own.
    """

    def __init__(self, n_inputs: int, n_heads: int, span: int, dropout: float) -> None:
        super().__init__()
        self.span, self._n_heads = span, n_heads
        self.norm = nn.LayerNorm(n_inputs)
        self.to_query = Linear(n_inputs, n_inputs)
        self.to_key_and_value = Linear(n_inputs, 2 * n_inputs)
        self.distance_HS = nn.Parameter(_delays_of_heads(n_heads, span))
        self.attended = nn.Sequential(Linear(n_inputs, n_inputs), nn.Dropout(dropout))
        width = HIDDEN_TIMES * n_inputs
        self.hidden = nn.Sequential(
            *(nn.LayerNorm(n_inputs), Linear(n_inputs, width), nn.GELU()),
            *(Linear(width, n_inputs), nn.Dropout(dropout)),
        )

    def forward(self, x_BTD: Tensor, exists_BT: Tensor) -> Tensor:
        """Return (B, T - S, D)."""
        normed_BTD = self.norm(x_BTD)
        query = self._heads(self.to_query(normed_BTD[:, self.span :]))
        key, value = map(self._heads, self.to_key_and_value(normed_BTD).chunk(2, dim=-1))
        bias = self._bias(exists_BT).to(query.dtype)
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x_BTD = x_BTD[:, self.span :] + self.attended(found.transpose(1, 2).flatten(2))
        return (x_BTD + self.hidden(x_BTD)) * reached(exists_BT, self.span)[..., None]

    def _heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self._n_heads, -1)).transpose(1, 2)

    def _bias(self, exists_BT: Tensor) -> Tensor:
        """Return what is added to the scores of (TR, TR it looks at), (B, H, T - S, T)."""
        n = exists_BT.shape[1]
        at = torch.arange(n, device=exists_BT.device)
        behind = at[self.span :, None] - at
        # A TR sees itself, there or not, so that no row of scores is without any.
        seen = (behind >= 0) & (behind <= self.span) & (exists_BT[:, None] | (behind == 0))
        by_distance = self.distance_HS[:, behind.clamp(0, self.span)]
        return by_distance.masked_fill(~seen[:, None], float("-inf"))


def _delays_of_heads(n_heads: int, span: int) -> Tensor:
    """Return the logarithm of Gaussian weights, (H, S + 1), whose centres are evenly apart."""
    width = max(1.0, span / n_heads)
    centre_H = span * (torch.arange(n_heads) + 0.5) / n_heads
    return -0.5 * ((torch.arange(span + 1) - centre_H[:, None]) / width) ** 2
