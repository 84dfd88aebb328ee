"""Learned haemodynamic responses: a causal filter, or several, of each number of the bottleneck.

::

    bottleneck   z(t - C) ... z(t - 1) z(t)      C TRs of context before each TR of the window
    taps             h(C) ...     h(1) h(0)      sum over lags l of h(l) z(t - l)

Each filter is a haemodynamic response plus a deviation that is learned, so that weight decay pulls
it back to the response and not to nothing.

Shapes: B windows, C TRs of context, W TRs of a window, D numbers of the bottleneck, K filters of
each, L = C + 1 taps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

CANONICAL_PEAK_SECONDS = 5.0
PEAK_SECONDS = (4.0, 6.5)
"""When the first and the last of several responses peak."""


def haemodynamic_response(seconds: np.ndarray, peak_seconds: float) -> np.ndarray:
    """Return the SPM response, stretched in time so that it peaks at `peak_seconds`.

    A gamma density of shape 6 less a sixth of one of shape 16, as nilearn's ``spm_hrf`` has it.
    """
    t = np.asarray(seconds, float) * CANONICAL_PEAK_SECONDS / peak_seconds
    return _gamma_density(t, 6) - _gamma_density(t, 16) / 6


def _gamma_density(t: np.ndarray, shape: int) -> np.ndarray:
    return t ** (shape - 1) * np.exp(-t) / math.factorial(shape - 1)


def starting_responses(n: int, seconds_L: np.ndarray) -> np.ndarray:
    """Return responses (n, L) that peak evenly between 4 and 6.5 s, or the canonical one.

    Each has a sum of squares of 1: what varies from TR to TR keeps its variance.
    """
    peaks = np.linspace(*PEAK_SECONDS, n) if n > 1 else [CANONICAL_PEAK_SECONDS]
    responses = np.stack([haemodynamic_response(seconds_L, peak) for peak in peaks])
    size = np.linalg.norm(responses, axis=1, keepdims=True)
    # A context that ends before a response begins leaves nothing to start from.
    return responses / np.where(size > 0, size, 1)


class Responses(nn.Module):
    """Causal filters over TRs, apart for each number of the bottleneck.

    Parameters
    ----------
    n_inputs : int
        D.
    n_filters : int
        K.
    seconds_L : ndarray
        Delay of each tap: how long before its BOLD the stimulus lies (s).

    Attributes
    ----------
    n_features : int
        D * K, numbers that each TR becomes.
    response_KL : Tensor
        What filters start as, by lag.
    deviation_DKL : Tensor
        What is learned on top of that.
    """

    response_KL: Tensor

    def __init__(self, n_inputs: int, n_filters: int, seconds_L: np.ndarray) -> None:
        super().__init__()
        self.n_features, self.seconds_L = n_inputs * n_filters, seconds_L
        responses = starting_responses(n_filters, seconds_L)
        self.register_buffer("response_KL", torch.tensor(responses, dtype=torch.float32))
        self.deviation_DKL = nn.Parameter(torch.zeros(n_inputs, *responses.shape))

    def filters(self) -> Tensor:
        """Return the filters (D, K, L), by lag."""
        return self.response_KL + self.deviation_DKL

    def forward(self, bottleneck_BTD: Tensor, exists_BT: Tensor) -> Tensor:
        """Filter.

        Parameters
        ----------
        bottleneck_BTD : Tensor
            (B, C + W, D); 0 where there is no row.
        exists_BT : Tensor
            (B, C + W) bool; what is 0 adds nothing to a sum, so that it is not looked at.

        Returns
        -------
        Tensor
            (B, W, D * K).
        """
        # A convolution of torch runs through its taps forwards in time.
        taps = self.filters().flip(-1).flatten(0, 1)[:, None]
        groups = bottleneck_BTD.shape[-1]
        filtered = nn.functional.conv1d(bottleneck_BTD.transpose(1, 2), taps, groups=groups)
        return filtered.transpose(1, 2)
