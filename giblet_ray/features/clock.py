"""Seconds as they were meant, so that the 2,000th TR is cut as exactly as the first."""

from __future__ import annotations

from fractions import Fraction


def exact_seconds(seconds: float | Fraction) -> Fraction:
    """Decimal number of seconds that was meant: 0.8 gives 4/5, not 0.8000000000000000444.

    Multiples of a TR are computed from it, and stay as they are.
    """
    if isinstance(seconds, Fraction):
        return seconds
    return Fraction(seconds).limit_denominator(1_000_000)
