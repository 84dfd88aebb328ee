"""What a model with haemodynamic memory has learned of each unit's response, and when it peaks.

A unit's weights are of taps and of what the taps are applied to; its response is the first singular
vector of that matrix, the one course in time that explains most of it::

    weights of unit v (L, D) = sum over filters k of  head(v, d, k) filter(d, k, l)
                             ~ response_v (L) x pattern_v (D)

Where the trunk is linear, or in its linear skip, patterns are of the numbers that enter it, else of
the bottleneck's.

Shapes: V units, D numbers of the bottleneck, I numbers that enter the trunk, K filters of each, L
taps of one TR each, F = D * K features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models.multimodal.hrf import (
    CANONICAL_PEAK_SECONDS,
    Responses,
    haemodynamic_response,
)
from giblet_ray.models.multimodal.model import Multimodal
from giblet_ray.models.predictor import GROUP

_AT_A_TIME = 4096
"""Units whose weights by tap and pattern are held at a time."""
_FINE_SECONDS = 0.1


@dataclass(frozen=True)
class LearnedResponses:
    """Responses of units to what enters the model."""

    seconds: np.ndarray
    """(L,) delay of each tap, a lag of the data (``data.lag_seconds``) included."""
    kernel_VL: np.ndarray
    """Each with a sum of squares of 1, positive where it is largest; 0 of a unit without
    weights."""
    share_V: np.ndarray
    """Part of the unit's squared weights that its response explains, 0 to 1: of one that answers to
    everything with the same course, 1."""
    peak_V: np.ndarray
    """When each peaks (s): the largest value of a cubic spline through the taps, every 0.1 s; NaN
    of a unit without weights."""

    @property
    def canonical(self) -> np.ndarray:
        """The canonical response at the same delays, (L,), with a sum of squares of 1."""
        response = haemodynamic_response(self.seconds, CANONICAL_PEAK_SECONDS)
        return response / np.linalg.norm(response)


@torch.no_grad()
def learned_responses(model: Multimodal, subject: int | None = None) -> LearnedResponses:
    """Read the responses of units.

    Parameters
    ----------
    model : Multimodal
        With memory ``hrf`` and a head that is linear in it.
    subject : int, optional
        Index of the subject whose units they are; the group's head by default.

    Raises
    ------
    InputError
        If its memory or its head is of another kind.
    """
    if not isinstance(model.memory, Responses):
        raise InputError("--model.memory: responses are learned with hrf alone")
    head_VF = _linear_head(model, GROUP if subject is None else subject).cpu().double()
    filters_DKL = model.memory.filters().cpu().double()
    metric_DD = _metric(model).cpu().double()
    head_VDK = head_VF.unflatten(1, filters_DKL.shape[:2])
    kernels, shares = [], []
    for some_UDK in head_VDK.split(_AT_A_TIME):
        weights_ULD = torch.einsum("udk,dkl->uld", some_UDK, filters_DKL)
        # The left singular vectors of weights are the eigenvectors of their products by tap.
        products_ULL = weights_ULD @ metric_DD @ weights_ULD.transpose(1, 2)
        values_UL, vectors_ULL = torch.linalg.eigh(products_ULL)
        whole_U = values_UL.sum(1)
        kernels.append(_upright(vectors_ULL[:, :, -1]) * (whole_U > 0)[:, None])
        shares.append(torch.where(whole_U > 0, values_UL[:, -1] / whole_U, 0.0))
    kernel_VL = torch.cat(kernels).numpy()
    seconds = model.memory.seconds_L
    return LearnedResponses(
        seconds, kernel_VL, torch.cat(shares).numpy(), peak_seconds(seconds, kernel_VL)
    )


def peak_seconds(seconds: np.ndarray, kernel_VL: np.ndarray) -> np.ndarray:
    """Return when responses peak (s), (V,): see :class:`LearnedResponses`."""
    fine = np.arange(seconds[0], seconds[-1] + _FINE_SECONDS / 2, _FINE_SECONDS)
    peak_V = np.empty(len(kernel_VL))
    for start in range(0, len(kernel_VL), _AT_A_TIME):
        some_UL = kernel_VL[start : start + _AT_A_TIME]
        peak_V[start : start + _AT_A_TIME] = fine[CubicSpline(seconds, some_UL.T)(fine).argmax(0)]
    return np.where(kernel_VL.any(1), peak_V, np.nan)


def _upright(kernel_UL: Tensor) -> Tensor:
    largest_U1 = kernel_UL.gather(1, kernel_UL.abs().argmax(1, keepdim=True))
    return kernel_UL * largest_U1.sign()


def _linear_head(model: Multimodal, subject: int) -> Tensor:
    """Return the weights (V, F) that a linear head amounts to."""
    heads = model.head
    if subject == GROUP and heads.group is None:
        raise InputError("the model has no head of the group: responses are each subject's own")
    chosen = heads.own[subject] if heads.group is None else heads.group
    weights = [layer.weight for layer in chosen.children() if isinstance(layer, nn.Linear)]
    if len(weights) < len(list(chosen.children())):
        raise InputError("--model.head: responses are read from linear and low_rank heads alone")
    *before, last = weights
    if heads.group is not None and heads.own and subject != GROUP:
        last = last + heads.own[subject].get_parameter("weight")
    for weight in reversed(before):
        last = last @ weight
    return last


def _metric(model: Multimodal) -> Tensor:
    """Return how alike two numbers of the bottleneck are, (D, D), by what enters a linear trunk."""
    encoder = model.encoder
    if encoder.skip is not None:
        return encoder.skip.weight @ encoder.skip.weight.T
    if encoder.hidden_layers is None or len(encoder.hidden_layers):
        return torch.eye(encoder.bottleneck_dim)
    layers: Any = encoder.layer7_bottleneck
    layer, *norms = layers
    weight_DI: Tensor = layer.weight
    for norm in norms:  # BatchNorm, where there is one, scales each number
        weight_DI = weight_DI * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None]
    return weight_DI @ weight_DI.T
