"""Samples: windows of consecutive TRs of one scan, as pure numbers that every rank knows.

A window is of BOLD TRs, counted from the onset of its film; the stimulus that they answer to lies
`lag` TRs earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Span, spans_by_stimulus

_CONTEXT_SHARE = 4
"""Context is at most one in so many of the stimulus rows that a long film's windows have: what is
read and encoded for nothing but to be seen again."""


@dataclass(frozen=True)
class Windows:
    """Samples: the TRs [start, start + length) of scans.

    Attributes
    ----------
    scan : ndarray of int32, shape (n,)
        Index of each window's scan.
    start : ndarray of int32, shape (n,)
        BOLD TR that each window begins at.
    length : ndarray of int32, shape (n,)
        TRs in each window.
    phase : ndarray of int32, shape (n,), optional
        Which of its film's phases each window's scan sees (default: the first).
    film_trs : ndarray of int32, shape (n,), optional
        TRs of each window's film, after which its BOLD may go on (default: it never ends).
    """

    scan: np.ndarray
    start: np.ndarray
    length: np.ndarray
    # As long as the others from then on.
    phase: np.ndarray = None  # type: ignore[assignment]
    film_trs: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.phase is None:
            object.__setattr__(self, "phase", np.zeros(len(self.scan), np.int32))
        if self.film_trs is None:
            endless = np.full(len(self.scan), np.iinfo(np.int32).max, np.int32)
            object.__setattr__(self, "film_trs", endless)

    def __len__(self) -> int:
        return len(self.scan)

    def __getitem__(self, which: slice | np.ndarray) -> Windows:
        return Windows(*(getattr(self, field.name)[which] for field in fields(self)))

    @property
    def shape(self) -> tuple[int, int]:
        """(windows, TRs of the longest)."""
        return len(self), int(self.length.max(initial=1))

    @property
    def n_trs(self) -> int:
        """TRs in all windows together."""
        return int(self.length.sum())

    def n_context(self, lag_trs: int, context_trs: int) -> int:
        """Return the rows of context that all windows together read: none before a film."""
        return int(np.clip(self.start - lag_trs, 0, context_trs).sum())

    def rows(self, lag_trs: int, context_trs: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the stimulus of a batch of these windows, W TRs of the longest and those before.

        ::

            TR of the film            0   1   2   3   4   5   6   7   |
            start 2, length 2     .   a   a   .                          lag 1, context 2, W = 3
            start 5, length 3             b   b   b   b   b              . does not exist
            start 8, length 2                         c   c   c   .   .  the film has 8 TRs
            BOLD                              A   A       B   B   B   C   C

        Parameters
        ----------
        lag_trs : int
            The stimulus lies so many TRs before its BOLD.
        context_trs : int
            C, TRs of the stimulus before that.

        Returns
        -------
        trs : ndarray of int, shape (n, C + W)
            Stimulus TR of each row, negative before the film.
        exists : ndarray of bool, shape (n, C + W)
            Rows that a window has: not before its film or after it, nor after its own last TR.
        """
        offsets = np.arange(-context_trs, self.shape[1])
        trs = self.start[:, None] - lag_trs + offsets
        is_film = (trs >= 0) & (trs < self.film_trs[:, None])
        return trs, is_film & (offsets < self.length[:, None])

    def bold_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the BOLD TR of each row of a batch, and which a window has, (n, W) each."""
        offsets = np.arange(self.shape[1])
        return self.start[:, None] + offsets, offsets < self.length[:, None]


def join_windows(*some: Windows) -> Windows:
    """Return the windows of several, one after the other."""
    names = [field.name for field in fields(Windows)]
    return Windows(*(np.concatenate([getattr(each, name) for each in some]) for name in names))


def cut_windows(
    spans: Iterable[Span],
    scans: Sequence[ScanKey],
    length: int,
    usable: Sequence[np.ndarray] | None = None,
    phases: Sequence[int] | None = None,
    film_trs: Sequence[int] | None = None,
) -> Windows:
    """Cut spans into windows of consecutive TRs that overlap nowhere and cross no edge.

    A span that no whole number of them fills, or that a TR interrupts which a scan lacks, has
    shorter ones, all of a length: batches are padded to the longest. Every TR is in one::

        span      |=====================.===============|      . a masked TR
        length 8  |------|------|-------|-------|-------|

    Parameters
    ----------
    spans : iterable of Span
        The TRs of each stimulus that are wanted.
    scans : sequence of ScanKey
        Scans whose samples are wanted.
    length : int
        TRs of a window, at most.
    usable : sequence of ndarray of bool, optional
        For each scan, the TRs of its stimulus that have BOLD (default: all).
    phases : sequence of int, optional
        Which of its film's phases each scan sees (default: the first).
    film_trs : sequence of int, optional
        TRs of each scan's film (default: no film ends).
    """
    return cut_stretches(unbroken(spans, scans, usable), length, phases, film_trs)


def cut_stretches(
    stretches_N3: np.ndarray,
    length: int,
    phases: Sequence[int] | None = None,
    film_trs: Sequence[int] | None = None,
) -> Windows:
    """Cut stretches, as :func:`unbroken` returns them, into windows; see :func:`cut_windows`."""
    scan_N, first_N, n_N = stretches_N3.T
    of_length = {n: _pieces(n, length) for n in np.unique(n_N).tolist()}
    pieces = [of_length[n] for n in n_N.tolist()]
    n_pieces_N = np.array([piece.shape[1] for piece in pieces], np.int64)
    start, lengths = np.concatenate([np.zeros((2, 0), np.int32), *pieces], axis=1)
    start += np.repeat(first_N, n_pieces_N)
    scan = np.repeat(scan_N, n_pieces_N)
    of_scans = {"phase": phases, "film_trs": film_trs}
    of_windows = {
        name: np.array(of, np.int32)[scan] for name, of in of_scans.items() if of is not None
    }
    return Windows(scan, start, lengths, **of_windows)


def _pieces(n: int, length: int) -> np.ndarray:
    """Return where the windows of a stretch of n TRs begin, and how long they are, (2, windows)."""
    n_pieces = -(-n // length)
    edges = n * np.arange(n_pieces + 1) // n_pieces
    return np.stack([edges[:-1], np.diff(edges)]).astype(np.int32)


def unbroken(
    spans: Iterable[Span],
    scans: Sequence[ScanKey],
    usable: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Return the stretches of spans that scans have whole.

    All masks are looked through at once, with a TR that is lacking between two::

        span 0        span 1
        ||||||..||| . |||||.|
        +     - + -   +    -+-         where a stretch begins and ends

    Parameters
    ----------
    spans, scans, usable
        As :func:`cut_windows` takes them.

    Returns
    -------
    ndarray of int32, shape (N, 3)
        Scan's index, first TR and length of each.
    """
    of_stimulus = spans_by_stimulus(spans)
    there = [
        (index, span)
        for index, scan in enumerate(scans)
        for span in of_stimulus.get(scan.stimulus, ())
    ]
    masks = [
        np.ones(len(span), bool) if usable is None else usable[index][span.start : span.stop]
        for index, span in there
    ]
    lacking = np.zeros(1, bool)
    joined = np.concatenate([lacking, *(each for mask in masks for each in (mask, lacking))])
    # Where each mask begins in what is joined, and so where its first TR lies.
    begins = np.cumsum([0, *(len(mask) + 1 for mask in masks)])[:-1]
    edges = np.flatnonzero(joined[1:] != joined[:-1]).reshape(-1, 2)
    which = np.searchsorted(begins, edges[:, 0], side="right") - 1
    scan = np.array([index for index, _ in there], np.int32)[which]
    first = np.array([span.start for _, span in there], np.int64)[which] - begins[which]
    return np.stack([scan, first + edges[:, 0], edges[:, 1] - edges[:, 0]], axis=1).astype(np.int32)


def window_trs(context_trs: int, batch_trs: int, longest: int) -> int:
    """Return how long windows are, where that is not asked for.

    Without context one TR, so that a batch is of TRs from all over. With context as short as lets
    it be at most a quarter of what is read, and longer where the batch has room for no more
    windows of that::

        context 14, batch 64     |--------------|================================...=|  1 of 64
        context 14, batch 256    |--------------|==========================...=|        6 of 42

    Parameters
    ----------
    context_trs : int
        C, TRs of the stimulus before a window.
    batch_trs : int
        TRs of a batch; none is longer.
    longest : int
        TRs of the longest unbroken stretch that trains; none is longer.
    """
    if context_trs == 0:
        return 1
    enough = (_CONTEXT_SHARE - 1) * context_trs
    return min(batch_trs // batch_windows(batch_trs, enough), longest)


def batch_windows(batch_trs: int, window: int) -> int:
    """Return the windows of a batch of so many TRs."""
    return max(1, batch_trs // window)


def rank_part(windows: Windows, rank: int, world_size: int) -> Windows:
    """Return a rank's consecutive share of some windows; shares differ by one at most."""
    return windows[part_of(np.arange(len(windows)), rank, world_size)]


def part_of(values: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """Return a rank's consecutive part of some values; parts differ by one at most."""
    n = len(values)
    return values[n * rank // world_size : n * (rank + 1) // world_size]


def equal_length_batches(windows: Windows, batch_trs: int) -> list[Windows]:
    """Cut windows into batches in which all have the same length, in order of length."""
    batches = []
    for length in np.unique(windows.length):
        same = windows[windows.length == length]
        size = batch_windows(batch_trs, int(length))
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches
