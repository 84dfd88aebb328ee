"""Which TRs fit a model, which choose it, and which judge it.

Training TRs fit; validation TRs choose (epoch, trial, champion); test TRs judge what was chosen,
once. Neighbouring TRs resemble one another, and BOLD at one TR answers to the 20 s of film before
it: held-out TRs are therefore whole blocks, whole stimuli or whole repeats, with a gap between the
sets that belongs to none::

    BOLD TR      0 ------------------------------------------------------------------- n
    training     |==================|
    validation                      |......|######|......|                               two gaps
    test                                                 |##############################|

All spans are of BOLD TRs, counted from the onset of the film, and are drawn from the films, the TR
and ``data.split`` alone: no lag, context or model moves them. BOLD after a film's end, which still
answers to it, is in the set of its last TR. All subjects share one split, so that what is held out
for one has been seen by none.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from giblet_ray.dataset.config import HRF_SECONDS, SplitConfig
from giblet_ray.dataset.reader import Span
from giblet_ray.errors import InputError, nearest
from giblet_ray.spaces.usable import stretches

SetName = Literal["train", "val", "test"]
SETS: tuple[SetName, ...] = ("train", "val", "test")
IN_WORDS: Mapping[SetName, str] = {"train": "training", "val": "validation", "test": "test"}

_GAP, _TRAIN, _VAL, _TEST = range(4)
_GAPS_SHARE = 0.1
"""Blocks are added while their gaps take no more than this part of a stimulus."""
_MOST_SHIFTS = 1000
"""Of BOLD, that a null is made of by default."""
_WHOLE_SHARE = 0.25
"""Of a film: an interval of no more is kept in one set whole, as a clip that ends every run; of
more, as of another version of the film, only TR by TR: else all of it would be held out."""
_MOST_BLOCKS = 4
"""Of each set in one stimulus: few and long, since a block's edges cost a gap each."""


class Use(IntEnum):
    """What a scan's BOLD TR is for."""

    NONE = 0
    JUDGES = 1
    """Validation or test."""
    TRAINS = 2


@dataclass(frozen=True)
class Split:
    """Spans of BOLD TRs, counted from the onset of each film.

    Attributes
    ----------
    train, val, test : tuple of Span
        The TRs of each set.
    repeats : mapping of str to frozenset of int, or None
        By set, the repeats of a stimulus whose scans are in it; None: all, in every set.
    n_lost : int
        TRs that gaps take from the stimuli.
    """

    train: tuple[Span, ...]
    val: tuple[Span, ...]
    test: tuple[Span, ...]
    repeats: Mapping[SetName, frozenset[int]] | None = None
    n_lost: int = 0

    def spans(self, name: SetName) -> tuple[Span, ...]:
        """Return the TRs of a set."""
        spans: tuple[Span, ...] = getattr(self, name)
        return spans

    def has(self, name: SetName, repeat: int) -> bool:
        """Whether scans of a repeat are in a set."""
        return self.repeats is None or repeat in self.repeats[name]

    def reaching(self, n_trs: Mapping[str, int], bold_trs: Mapping[str, int]) -> Split:
        """Return the same sets, with the TRs after a film's end in the set of its last TR.

        Parameters
        ----------
        n_trs, bold_trs : mapping of str to int
            TRs of each stimulus, and those that scans have BOLD of.
        """

        def reach(span: Span) -> Span:
            last, reached = n_trs[span.stimulus], bold_trs[span.stimulus]
            if span.stop < last or reached == last:
                return span
            return replace(span, stop=reached)

        train, val, test = (tuple(map(reach, self.spans(name))) for name in SETS)
        return replace(self, train=train, val=val, test=test)

    @property
    def test_film_is_seen(self) -> bool:
        """Whether the test films trained, by another repeat of their scans."""
        return self.repeats is not None


@dataclass(frozen=True)
class SameFilm:
    """Equal intervals of films: all of one `group` show the same."""

    group: str
    """What they show."""
    spans: tuple[Span, ...]
    """Where, in TRs; all begin with the same."""


def same_in_words(same: Sequence[SameFilm]) -> str:
    """Say how many intervals show the same, with a checksum that tells them from others."""
    if not same:
        return "none"
    checksum = hashlib.sha256(repr(tuple(same)).encode()).hexdigest()[:12]
    return f"{sum(len(each.spans) for each in same)} intervals (checksum {checksum})"


def draw_split(
    settings: SplitConfig,
    n_trs: Mapping[str, int],
    tr_seconds: float,
    repeats: Iterable[int] = (1,),
    same: Sequence[SameFilm] = (),
) -> Split:
    """Draw the three sets.

    Parameters
    ----------
    settings : SplitConfig
        ``data.split``.
    n_trs : mapping of str to int
        TRs of each stimulus.
    tr_seconds : float
        TR, in seconds.
    repeats : iterable of int
        Repeats that scans have.
    same : sequence of SameFilm
        Intervals that are kept in one set.

    Raises
    ------
    InputError
        If a stimulus or repeat is not there, or a set would be empty.
    """
    gap = whole_trs(settings.gap_seconds, tr_seconds)
    if settings.kind == "repeats":
        return _split_repeats(settings, n_trs, sorted(set(repeats)))
    if settings.kind == "stimuli":
        labels = _label_stimuli(settings, n_trs)
    else:
        response = response_trs(tr_seconds)
        labels = {
            name: _label_blocks(settings, name, n, gap, response) for name, n in n_trs.items()
        }
    while any(_keep_together(labels, each) for each in same):
        pass  # until what shows the same as what was moved has moved, too
    for of_film in labels.values():
        _widen_gaps(of_film, gap)
    return _checked(labels, settings)


def whole_trs(seconds: float, tr_seconds: float) -> int:
    """Return a duration in whole TRs, rounded up."""
    return math.ceil(seconds / tr_seconds - 1e-9)


def response_trs(tr_seconds: float) -> int:
    """Return the haemodynamic response in whole TRs: what gaps, blocks and shifts last at least."""
    return whole_trs(HRF_SECONDS, tr_seconds)


def smallest_p_line(split: Split, tr_seconds: float) -> str:
    """Say the smallest p that the test TRs allow for a unit, by shifts of BOLD against the film.

    A shift is at least as long as the haemodynamic response in either direction: a film of T test
    TRs has T - 2 * response + 1 of them (:mod:`giblet_ray.evaluation.null`).
    """
    response = response_trs(tr_seconds)
    lengths: dict[str, int] = {}
    for span in split.test:
        lengths[span.stimulus] = lengths.get(span.stimulus, 0) + len(span)
    shifts = [n - 2 * response + 1 for n in lengths.values()]
    if min(shifts) < 1:
        return (
            f"none: a film has {min(lengths.values())} test TRs, fewer than the "
            f"{2 * response} that BOLD is shifted by"
        )
    n = min(_MOST_SHIFTS, math.prod(shifts))
    return f"{1 / (1 + n):.2g} of a unit, by {n:,} shifts of its BOLD"


def n_blocks_for(n_trs: int, gap: int) -> int:
    """Return how many blocks of each held-out set a stimulus of so many TRs has by default.

    As many as keep the gaps within a tenth of the stimulus: B blocks of either set have 3 B - 1
    gaps. One at least, four at most.
    """
    return min(_MOST_BLOCKS, max(1, math.floor((_GAPS_SHARE * n_trs / gap + 1) / 3)))


def _label_blocks(
    settings: SplitConfig, stimulus: str, n: int, gap: int, response: int
) -> NDArray[np.int8]:
    """Label the TRs of one stimulus: in each of its parts training, validation and test."""
    n_blocks = settings.blocks or n_blocks_for(n, gap)
    if settings.folds > 1:
        return _label_fold(settings, stimulus, n, gap, n_blocks)
    labels = np.full(n, _TRAIN, np.int8)
    usable = n - (3 * n_blocks - 1) * gap
    n_val = round(usable * settings.val_fraction / n_blocks)
    n_test = round(usable * settings.test_fraction / n_blocks)
    if n_test > response:  # whole responses: the blocks that a test permutes
        n_test -= n_test % response
    if min(n_val, n_test) < 1:
        raise _too_short(stimulus, n, n_blocks, gap)
    for end in (round(n * (block + 1) / n_blocks) for block in range(n_blocks)):
        labels[end - n_test : end] = _TEST
        labels[end - n_test - gap : end - n_test] = _GAP
        labels[end - n_test - gap - n_val : end - n_test - gap] = _VAL
    return labels


def _label_fold(
    settings: SplitConfig, stimulus: str, n: int, gap: int, n_blocks: int
) -> NDArray[np.int8]:
    """Label one fold: every TR is test in one of them, validation lies inside the rest."""
    folds, fold = settings.folds, settings.fold_index
    pieces = folds * n_blocks
    edges = [round(n * piece / pieces) for piece in range(pieces + 1)]
    labels = np.full(n, _TRAIN, np.int8)
    for piece in range(fold, pieces, folds):
        labels[edges[piece] : edges[piece + 1]] = _TEST
    _widen_gaps(labels, gap)
    free = np.flatnonzero(labels == _TRAIN)
    runs = np.split(free, np.flatnonzero(np.diff(free) > 1) + 1)
    n_val = round(len(free) * settings.val_fraction / n_blocks)
    # From the longest stretches, at the end that lies farther from the film's onset.
    for run in sorted(runs, key=len, reverse=True)[:n_blocks]:
        if n_val < 1 or len(run) < n_val + gap + 1:
            raise _too_short(stimulus, n, pieces, gap)
        labels[run[-n_val:]] = _VAL
    return labels


def _too_short(stimulus: str, n: int, n_blocks: int, gap: int) -> InputError:
    return InputError(
        f"--data.split: {stimulus} has {n} TRs, too few for {n_blocks} block"
        f"{'s' if n_blocks > 1 else ''} of validation and of test TRs and gaps of {gap}; use fewer "
        "blocks, larger fractions, or kind stimuli"
    )


def _label_stimuli(settings: SplitConfig, n_trs: Mapping[str, int]) -> dict[str, NDArray[np.int8]]:
    if settings.folds > 1:
        names = list(n_trs)
        if settings.folds < 3 or len(names) < settings.folds:
            raise InputError(
                f"--data.split.folds {settings.folds}: of {len(names)} stimuli 3 to {len(names)} "
                "folds can be made: one tests, one validates, the others train"
            )
        test, validated = settings.fold_index, (settings.fold_index + 1) % settings.folds
        of_fold = {name: index % settings.folds for index, name in enumerate(names)}
        sets = {name: {test: _TEST, validated: _VAL}.get(of_fold[name], _TRAIN) for name in names}
    else:
        for field in ("val_stimuli", "test_stimuli"):
            for name in getattr(settings, field):
                if name not in n_trs:
                    raise InputError(
                        f"--data.split.{field}: {name!r} is not in the data set"
                        f"{nearest(name, list(n_trs))}; it has {', '.join(n_trs)}"
                    )
        sets = dict.fromkeys(n_trs, _TRAIN)
        sets |= dict.fromkeys(settings.val_stimuli, _VAL)
        sets |= dict.fromkeys(settings.test_stimuli, _TEST)
    return {name: np.full(n, sets[name], np.int8) for name, n in n_trs.items()}


def _split_repeats(
    settings: SplitConfig, n_trs: Mapping[str, int], repeats: Sequence[int]
) -> Split:
    sets = {"val": frozenset(settings.val_repeats), "test": frozenset(settings.test_repeats)}
    for name, chosen in sets.items():
        if missing := chosen - set(repeats):
            raise InputError(
                f"--data.split.{name}_repeats {min(missing)}: the scans have repeats "
                f"{', '.join(map(str, repeats))}"
            )
    train = frozenset(repeats) - sets["val"] - sets["test"]
    if not train:
        raise InputError(
            "--data.split: no training TRs are left: every repeat is held out "
            f"({', '.join(map(str, repeats))})"
        )
    spans = tuple(Span(name, 0, n) for name, n in n_trs.items())
    return Split(spans, spans, spans, {"train": train, "val": sets["val"], "test": sets["test"]})


def _keep_together(labels: dict[str, NDArray[np.int8]], same: SameFilm) -> bool:
    """Move what shows the same into the strictest set that some of it is in; say if any moved.

    Intervals move whole, or, where one is more than :data:`_WHOLE_SHARE` of its film, TR by TR,
    counted from where each begins.
    """
    there = [span for span in same.spans if span.stimulus in labels]
    parts = [labels[span.stimulus][span.start : span.stop] for span in there]
    if not parts:
        return False
    strictest = np.full(max(map(len, parts)), _GAP, np.int8)
    for part in parts:
        np.maximum(strictest[: len(part)], part, out=strictest[: len(part)])
    if all(len(span) <= _WHOLE_SHARE * len(labels[span.stimulus]) for span in there):
        strictest[:] = strictest.max(initial=_GAP)
    moved = False
    for part in parts:
        to = strictest[: len(part)]
        lower = (to > _TRAIN) & (part < to)
        part[lower] = to[lower]
        moved |= bool(lower.any())
    return moved


def _widen_gaps(labels: NDArray[np.int8], gap: int) -> None:
    """Take from training what lies within a gap of a held-out TR, from validation, of a test TR."""
    for loser in (_VAL, _TRAIN):  # which of the labels above it hold out
        for start, stop in stretches(labels > loser):
            near = labels[max(0, start - gap) : stop + gap]
            near[near == loser] = _GAP


def _checked(labels: Mapping[str, NDArray[np.int8]], settings: SplitConfig) -> Split:
    sets: dict[int, list[Span]] = {label: [] for label in (_GAP, _TRAIN, _VAL, _TEST)}
    for stimulus, of in labels.items():
        edges = [0, *(np.flatnonzero(of[1:] != of[:-1]) + 1).tolist(), len(of)]
        for start, stop in itertools.pairwise(edges):
            sets[int(of[start])].append(Span(stimulus, start, stop))
    for name, label in zip(SETS, (_TRAIN, _VAL, _TEST), strict=True):
        spans = sets[label]
        if not spans:
            n_trs = sum(map(len, labels.values()))
            raise InputError(
                f"--data.split: no {IN_WORDS[name]} TRs are left of {n_trs} by kind "
                f"{settings.kind} and gaps of {settings.gap_seconds:g} s; use fewer blocks, or "
                "other fractions or stimuli"
            )
    train, val, test = (tuple(sets[label]) for label in (_TRAIN, _VAL, _TEST))
    return Split(train, val, test, n_lost=sum(map(len, sets[_GAP])))
