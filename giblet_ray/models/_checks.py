"""Checks of constructor arguments and input shapes, shared by the encoders."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

from giblet_ray.errors import InputError


def require_sizes(**sizes: int) -> None:
    """Refuse a size that is not a whole number of at least 1, by the name the caller used."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name}: found {value!r}, must be a whole number of at least 1")


def require_rate(**rates: float) -> None:
    """Refuse a dropout rate outside [0, 1)."""
    for name, value in rates.items():
        if not 0 <= value < 1:
            raise InputError(f"{name}: found {value!r}, must be at least 0 and below 1")


def odd_kernel_sizes(kernel_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return `kernel_sizes` as a tuple; refuse an empty one, and even or non-positive sizes.

    Only an odd kernel keeps a frame's position: an even one has no middle, and shifts by half a
    frame.
    """
    kernel_sizes = tuple(kernel_sizes)
    if not kernel_sizes:
        raise InputError("kernel_sizes: found none, must hold at least one odd whole number")
    for size in kernel_sizes:
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1 or size % 2 == 0:
            raise InputError(
                f"kernel_sizes: found {size!r} in {kernel_sizes}, every one must be an odd whole "
                "number of at least 1 (3, 5, 7, ...)"
            )
    return kernel_sizes


def require_shape(name: str, values: Tensor, expected: Sequence[int | str]) -> None:
    """Refuse `values` whose shape is not `expected`, where a string is an axis of any length."""
    fits = values.dim() == len(expected) and all(
        isinstance(wanted, str) or found == wanted
        for found, wanted in zip(values.shape, expected, strict=True)
    )
    if not fits:
        axes = ", ".join(str(axis) for axis in expected)
        raise InputError(f"{name}: found shape {tuple(values.shape)}, must be ({axes})")


def require_floats(name: str, values: Tensor) -> None:
    """Refuse integer `values` where the network takes floating-point ones."""
    if not values.is_floating_point():
        raise InputError(
            f"{name}: found {values.dtype}, must be floating point (convert and scale it first)"
        )
