"""Which TRs train the model and which judge it.

Neighbouring TRs resemble one another, and BOLD at one TR answers to the 20 s of film before it.
Held-out TRs are therefore whole blocks or whole stimuli, with a gap on either side that neither
trains nor judges. All subjects share one split: what is held out for one has been seen by none.

::

    stimulus   0 ------------------------------------------------------------- n - lag
    training   |=============|                        |===========|
    gap                      |......|          |......|           |......
    held out                        |##########|                         |####
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from giblet_ray.dataset.reader import Span
from giblet_ray.errors import InputError, nearest


@dataclass(frozen=True)
class Split:
    """Spans of stimulus TRs; their BOLD lies lag TRs later."""

    train: tuple[Span, ...]
    val: tuple[Span, ...]


def split_blocks(
    usable_trs: Mapping[str, int], val_fraction: float, val_blocks: int, gap_trs: int
) -> Split:
    """Hold out contiguous blocks of every stimulus.

    Each stimulus is cut into `val_blocks` equal parts; the middle of each part is held out.

    Parameters
    ----------
    usable_trs : mapping of str to int
        For each stimulus, the TRs that have BOLD `lag` TRs later.
    val_fraction : float
        Share of the TRs that is held out.
    val_blocks : int
        Held-out blocks per stimulus.
    gap_trs : int
        TRs on either side of a held-out block that are used for nothing.

    Raises
    ------
    InputError
        If a stimulus is too short for its blocks to hold a TR, or nothing is left for training.
    """
    train: list[Span] = []
    val: list[Span] = []
    for stimulus, n_trs in usable_trs.items():
        length = round(n_trs * val_fraction / val_blocks)
        if length < 1:
            raise InputError(
                f"--data.split: {val_blocks} held-out blocks of {val_fraction:g} of {stimulus} "
                f"({n_trs} TRs) are empty; use fewer val_blocks or a larger val_fraction"
            )
        edge = 0
        for block in range(val_blocks):
            middle = (2 * block + 1) * n_trs / (2 * val_blocks)
            start = round(middle - length / 2)
            _append(train, stimulus, edge, start - gap_trs)
            val.append(Span(stimulus, start, start + length))
            edge = start + length + gap_trs
        _append(train, stimulus, edge, n_trs)
    cause = f"gaps of {gap_trs} TRs around {val_blocks} held-out blocks; use fewer val_blocks"
    return _checked(train, val, cause)


def split_stimuli(usable_trs: Mapping[str, int], val_stimuli: Sequence[str]) -> Split:
    """Hold out whole stimuli.

    Raises
    ------
    InputError
        If a stimulus is not in the data set, or none is left for training.
    """
    for name in val_stimuli:
        if name not in usable_trs:
            raise InputError(
                f"--data.split.val_stimuli: {name!r} is not in the data set"
                f"{nearest(name, list(usable_trs))}; it has {', '.join(usable_trs)}"
            )
    spans = [Span(name, 0, n_trs) for name, n_trs in usable_trs.items() if n_trs > 0]
    train = [span for span in spans if span.stimulus not in val_stimuli]
    val = [span for span in spans if span.stimulus in val_stimuli]
    return _checked(train, val, f"held-out stimuli {', '.join(val_stimuli)}")


def gap_trs(gap_seconds: float, tr_seconds: float) -> int:
    """Return the gap in whole TRs, rounded up."""
    return math.ceil(gap_seconds / tr_seconds - 1e-9)


def _append(spans: list[Span], stimulus: str, start: int, stop: int) -> None:
    if stop > start:
        spans.append(Span(stimulus, start, stop))


def _checked(train: list[Span], val: list[Span], cause: str) -> Split:
    for name, spans in (("training", train), ("held-out", val)):
        if not spans:
            raise InputError(f"--data.split: no {name} TRs are left by {cause}")
    return Split(tuple(train), tuple(val))
