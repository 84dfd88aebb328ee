"""From the rows of a part to a model's input, by the kind of encoder that reads them.

The manifest names each part's kind of encoder, so that a data set is read without importing what
made it: a part of a lab's own is read by machines that know nothing of that lab.

======= ========================== ======================================
kind    one row                    a model's input
======= ========================== ======================================
image   uint8 (3 n, height, width) float32 in [-0.5, 0.5]
codes   int16 (K, T), 0 to 1023    int64
mel     float (M, T)               float32
vector  float (D,)                 float32
======= ========================== ======================================

Shapes: N rows, n pictures of a TR, K codebooks, T frames per TR, M bands, D numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.codes import CODEBOOK_SIZE
from giblet_ray.parts.value import ValueType

RGB = 3
"""Channels of a picture: red, green, blue."""


class Reading(ABC):
    """How a model reads rows.

    Attributes
    ----------
    accepted : str
        The rows that it reads, in words.
    """

    accepted: ClassVar[str]

    @abstractmethod
    def reads(self, value: ValueType) -> bool:
        """Tell whether rows of this type can be read."""

    @abstractmethod
    def check(self, values: np.ndarray, where: str, first_tr: int = 0) -> None:
        """Make sure that rows hold what a model can be given.

        Parameters
        ----------
        values : ndarray, shape (N, ...)
            As they lie on disk.
        where : str
            File that they are from, for messages.
        first_tr : int
            TR of the first row.

        Raises
        ------
        InputError
            For a number that is out of range or not finite.
        """

    def to_input(self, values: Any) -> Any:
        """Return what an encoder of this kind takes, from a tensor of rows.

        Parameters
        ----------
        values : Tensor, shape (..., *shape)
            In the dtype on disk, on any device.

        Returns
        -------
        Tensor
            Of the same shape, on the same device; its memory is its own, or the rows' where their
            dtype is the input's.
        """
        return values.float()

    def suits(self, found: ValueType, wanted: ValueType) -> bool:
        """Tell whether a model that was built for rows of one type can be given others."""
        return found == wanted

    def check_leading(self, value: ValueType, first: int, where: str) -> None:
        """Make sure that rows of a type may be read in part: the first entries of axis 0.

        Raises
        ------
        InputError
            If they are read whole or not at all, or have fewer entries; `where` names the setting
            and the part.
        """
        if first != value.shape[0]:
            raise InputError(f"{where} holds {value}, which is read whole")

    @abstractmethod
    def describe(self, values: np.ndarray) -> str:
        """Say what rows (N, ...) hold, for a user to see whether it is what they think it is."""


class _Numbers(Reading):
    """Numbers as they are, but for their format."""

    n_axes: ClassVar[int]

    def reads(self, value: ValueType) -> bool:
        return value.dtype in ("float16", "float32") and len(value.shape) == self.n_axes

    def check(self, values: np.ndarray, where: str, first_tr: int = 0) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
            raise InputError(
                f"{where}: the value of TR {first_tr + row} is not finite; NaN and infinite "
                "numbers are no input"
            )

    def describe(self, values: np.ndarray) -> str:
        flat = values.reshape(len(values), -1).astype(np.float32)
        empty = float((flat == 0).all(axis=1).mean())
        said = f"{flat.min():.4g} to {flat.max():.4g}, mean {flat.mean():.4g}, std {flat.std():.4g}"
        said += f", {float((flat == 0).mean()):.0%} zeros"
        return f"{said}, {empty:.0%} of TRs nothing but zeros" if empty else said


class Image(_Numbers):
    """Pictures: channels of each in turn, rows, columns."""

    accepted = "uint8 (3, height, width), or 3 n channels of n pictures of a TR"

    def reads(self, value: ValueType) -> bool:
        return value.dtype == "uint8" and len(value.shape) == 3 and value.shape[0] % RGB == 0

    def check(self, values: np.ndarray, where: str, first_tr: int = 0) -> None:
        """Nothing to check: every byte is a shade."""

    def to_input(self, values: Any) -> Any:
        return values.float().div_(255).sub_(0.5)


class Codes(Reading):
    """Codes of a residual codec: the first codebooks of a wide encoding are the narrow one."""

    accepted = "int16 (codebooks, frames)"

    def reads(self, value: ValueType) -> bool:
        return value.dtype == "int16" and len(value.shape) == 2

    def check(self, values: np.ndarray, where: str, first_tr: int = 0) -> None:
        # As unsigned numbers, negative codes are large: one comparison finds both.
        if values.view(np.uint16).max(initial=0) >= CODEBOOK_SIZE:
            bad = np.argwhere(values.view(np.uint16) >= CODEBOOK_SIZE)[0]
            raise InputError(
                f"{where}: code {values[tuple(bad)]} at TR {first_tr + bad[0]}; 0 to "
                f"{CODEBOOK_SIZE - 1} are accepted"
            )

    def to_input(self, values: Any) -> Any:
        return values.long()

    def suits(self, found: ValueType, wanted: ValueType) -> bool:
        narrowed = found.model_copy(update={"shape": (wanted.shape[0], *found.shape[1:])})
        return narrowed == wanted and found.shape[0] >= wanted.shape[0]

    def check_leading(self, value: ValueType, first: int, where: str) -> None:
        if first > value.shape[0]:
            raise InputError(
                f"{where} has {value.shape[0]} codebooks; use at most {value.shape[0]}, or "
                f"precompute with --codes.codebooks {first}"
            )

    def describe(self, values: np.ndarray) -> str:
        """Say how much of the codebooks is used: 10 bits where all codes are as frequent."""
        used, entropies = [], []
        for codebook in range(values.shape[1]):
            counts = np.bincount(values[:, codebook].ravel(), minlength=CODEBOOK_SIZE)
            share = counts[counts > 0] / counts.sum()
            used.append(len(share))
            entropies.append(float(-(share * np.log2(share)).sum()))
        return (
            f"{min(used):,} to {max(used):,} of {CODEBOOK_SIZE:,} codes in use per codebook, "
            f"entropy {min(entropies):.1f} to {max(entropies):.1f} of "
            f"{math.log2(CODEBOOK_SIZE):.0f} bits"
        )


class Mel(_Numbers):
    """Spectra over time: bands, frames."""

    accepted = "float16 or float32 (bands, frames)"
    n_axes = 2


class Vector(_Numbers):
    """One vector per TR."""

    accepted = "float16 or float32 (numbers,)"
    n_axes = 1


READINGS: dict[str, Reading] = {
    "image": Image(),
    "codes": Codes(),
    "mel": Mel(),
    "vector": Vector(),
}
"""Every kind of encoder that there is."""


def find_reading(encoder: str, where: str) -> Reading:
    """Return how rows are read by a kind of encoder.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if encoder not in READINGS:
        raise InputError(
            f"{where}: there is no kind of encoder {encoder!r}{nearest(encoder, list(READINGS))}; "
            f"{', '.join(READINGS)} are accepted"
        )
    return READINGS[encoder]
