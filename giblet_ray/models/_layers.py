"""Layers that the encoders are built of, by how they normalise.

====== ========================================== ==========
norm   numbers are normalised over                 activation
====== ========================================== ==========
batch  the rows of a batch, feature by feature     ReLU
layer  the features of a row, row by row           GELU
none   nothing                                     GELU
====== ========================================== ==========

Rows that are normalised one by one are the same in any batch, on any number of workers.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from torch import Tensor, nn

from giblet_ray.errors import InputError
from giblet_ray.models.linear import Linear

Norm = Literal["batch", "layer", "none"]


def require_norm(norm: str) -> None:
    """Refuse an unknown way to normalise."""
    if norm not in get_args(Norm):
        raise InputError(f"norm: found {norm!r}, must be one of {', '.join(get_args(Norm))}")


def normalised(features: int, norm: Norm) -> list[nn.Module]:
    """Return what follows a linear layer: normalisation and activation of (B, features)."""
    if norm == "batch":
        return [nn.BatchNorm1d(features), nn.ReLU()]
    return [*([nn.LayerNorm(features)] if norm == "layer" else []), nn.GELU()]


def normalised_channels(channels: int, norm: Norm, axes: Literal[1, 2]) -> list[nn.Module]:
    """Return what follows a convolution over one axis or two: of (B, channels, *axes)."""
    if norm == "batch":
        batch_norm = nn.BatchNorm1d if axes == 1 else nn.BatchNorm2d
        return [batch_norm(channels), nn.ReLU()]
    return [*([nn.GroupNorm(1, channels)] if norm == "layer" else []), nn.GELU()]


class ByPart(nn.ModuleDict):
    """Modules by the name of a part, which may be that of a method, such as values or type; only
    training, which torch sets, may not be one."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Hold a module without a look at what else is called so: modules are found by key."""
        self._modules[name] = cast(nn.Module, module)  # a ModuleDict holds no None


class Products(nn.Module):
    """The products of two linear maps of a row, (B, in_dim) -> (B, out_dim)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.factors = Linear(in_dim, 2 * out_dim)

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply the first half of the factors by the second."""
        first, second = self.factors(rows).chunk(2, dim=-1)
        return first * second


def hidden_layer(
    in_dim: int, out_dim: int, dropout: float, norm: Norm, gated: bool = False
) -> nn.Sequential:
    """Return a linear layer, normalised, with its activation and dropout; or products, which need
    no activation."""
    if gated:
        normed = normalised(out_dim, norm)[:-1]
        return nn.Sequential(Products(in_dim, out_dim), *normed, nn.Dropout(dropout))
    return nn.Sequential(Linear(in_dim, out_dim), *normalised(out_dim, norm), nn.Dropout(dropout))
