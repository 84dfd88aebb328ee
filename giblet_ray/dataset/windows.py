"""Samples and their order: pure functions of numbers that every rank knows.

A sample is a window: `length` consecutive TRs of one scan. An epoch is one permutation of all
training windows, drawn from (seed, epoch). Global batch s is its s-th slice, and rank r takes the
r-th part of that::

    permutation(seed, epoch)   | batch 0           | batch 1           | batch 2 ...
                               | rank 0  | rank 1  | rank 0  | rank 1  | ...

so the global batches are the same whatever the number of ranks, every window is seen once per
epoch by one rank, and any step can be returned to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.schema import ScanKey

STREAM_MIX_ROW_GROUPS = 16
"""Row groups whose windows are shuffled together where the data is streamed."""


@dataclass(frozen=True)
class Windows:
    """Samples: the TRs [start, start + length) of scans.

    Attributes
    ----------
    scan : ndarray of int32, shape (n,)
        Index of each window's scan.
    start : ndarray of int32, shape (n,)
        Stimulus TR that each window begins at.
    length : ndarray of int32, shape (n,)
        TRs in each window.
    """

    scan: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.scan)

    def __getitem__(self, which: slice | np.ndarray) -> Windows:
        return Windows(self.scan[which], self.start[which], self.length[which])

    @property
    def shape(self) -> tuple[int, int]:
        """(windows, TRs of the longest)."""
        return len(self), int(self.length.max(initial=1))

    @property
    def n_trs(self) -> int:
        """TRs in all windows together."""
        return int(self.length.sum())

    def rows(self, context_trs: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a batch of these windows, W TRs of the longest and those before it.

        ::

            TR of the film            0   1   2   3   4   5   6   7
            start 1, length 2     .   a   a   .                          context_trs = 2, W = 3
            start 4, length 3             b   b   b   b   b              . does not exist

        Returns
        -------
        trs : ndarray of int, shape (n, context_trs + W)
            Stimulus TR of each row, negative before the film.
        exists : ndarray of bool, shape (n, context_trs + W)
            Rows that a window has: not before its film, nor after its own last TR.
        """
        offsets = np.arange(-context_trs, self.shape[1])
        trs = self.start[:, None] + offsets
        return trs, (trs >= 0) & (offsets < self.length[:, None])


def cut_windows(
    spans: Iterable[Span],
    scans: Sequence[ScanKey],
    length: int,
    usable: Sequence[np.ndarray] | None = None,
) -> Windows:
    """Cut spans into windows of consecutive TRs that overlap nowhere and cross no edge.

    What is left at the end of a span, or before a TR that a scan lacks, is a shorter window: every
    TR is in one::

        span      |=====================.===============|      . a masked TR
        length 8  |-------|-------|-----|-------|-------|

    Parameters
    ----------
    spans : iterable of Span
        The TRs of each stimulus that are wanted.
    scans : sequence of ScanKey
        Scans whose samples are wanted.
    length : int
        TRs per window.
    usable : sequence of ndarray of bool, optional
        For each scan, the TRs of its stimulus that have BOLD (default: all).
    """
    spans = list(spans)
    rows = [
        (index, start, min(length, stop - start))
        for index, scan in enumerate(scans)
        for span in spans
        if span.stimulus == scan.stimulus
        for first, stop in _stretches(span, None if usable is None else usable[index])
        for start in range(first, stop, length)
    ]
    table = np.array(rows, dtype=np.int32).reshape(-1, 3)
    return Windows(table[:, 0], table[:, 1], table[:, 2])


def _stretches(span: Span, usable: np.ndarray | None) -> list[tuple[int, int]]:
    """Return the stretches [start, stop) of a span in which every TR can be used."""
    if usable is None:
        return [(span.start, span.stop)]
    inside = np.concatenate([[False], usable[span.start : span.stop], [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + span.start
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class Step:
    """One optimiser step of one rank.

    Attributes
    ----------
    windows : ndarray of int
        Indices of the rank's windows.
    n_global : int
        Windows of all ranks together.
    """

    windows: np.ndarray
    n_global: int


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of n windows that an epoch visits, shape (n,)."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def streamed_epoch_order(group: np.ndarray, mix: int, seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of windows that visits few row groups at a time.

    The row groups are permuted; each one's windows are spread over the places of the `mix` row
    groups from its own on. About `mix` are open at any time, and one is opened where one has ended:
    reading them is as steady as using them.

    Parameters
    ----------
    group : ndarray of int, shape (n,)
        Row group of each window.
    mix : int
        Row groups whose windows are shuffled together.
    seed, epoch : int
        What the permutation is drawn from.
    """
    random = np.random.default_rng([seed, epoch])
    groups, group_index = np.unique(group, return_inverse=True)
    place = random.permutation(len(groups))[group_index]
    return np.argsort(place + mix * random.random(len(group)))


def epoch_steps(
    order: np.ndarray, batch_size: int, smallest: int, rank: int, world_size: int
) -> list[Step]:
    """Cut an epoch's order into the steps of a rank.

    The last batch holds what is left, if that is at least `smallest` windows; else it is left
    out of this epoch.
    """
    steps = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        if len(batch) >= smallest:
            steps.append(Step(_part(batch, rank, world_size), len(batch)))
    return steps


def streamed_epoch_steps(
    order: np.ndarray, batch_size: int, smallest: int, lanes: int, rank: int, world_size: int
) -> list[Step]:
    """Cut an epoch's order into the steps of a rank that reads stretches of it from disk.

    Batches have the sizes that :func:`epoch_steps` gives them, but their windows come from
    consecutive stretches of the order, the lanes, so that few row groups are read by two ranks::

        order    | lane 0          | lane 1          |
        step     | 0 | 1 | 2 | ... | 0 | 1 | 2 | ... |    batch s: the s-th piece of every lane
        2 ranks    rank 0            rank 1
        1 rank     rank 0            rank 0

    Batches do not depend on the number of ranks, each of which takes consecutive lanes.

    Parameters
    ----------
    order : ndarray of int
        Windows in the order of the epoch.
    batch_size, smallest : int
        As :func:`epoch_steps` takes them.
    lanes : int
        Stretches, at least `world_size`.
    rank, world_size : int
        The rank, and how many there are.
    """
    sizes = np.array(
        [
            [len(step.windows) for step in epoch_steps(order, batch_size, smallest, lane, lanes)]
            for lane in range(lanes)
        ],
        dtype=np.int64,
    )
    ends = np.cumsum(sizes).reshape(sizes.shape)
    mine = _part(np.arange(lanes), rank, world_size)
    return [
        Step(
            np.concatenate([order[ends[n, step] - sizes[n, step] : ends[n, step]] for n in mine]),
            int(sizes[:, step].sum()),
        )
        for step in range(sizes.shape[1])
    ]


def rank_part(windows: Windows, rank: int, world_size: int) -> Windows:
    """Return a rank's consecutive share of some windows; shares differ by one at most."""
    return windows[_part(np.arange(len(windows)), rank, world_size)]


def _part(values: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    n = len(values)
    return values[n * rank // world_size : n * (rank + 1) // world_size]


def equal_length_batches(windows: Windows, batch_size: int) -> list[Windows]:
    """Cut windows into batches in which all have the same length, in order of length."""
    batches = []
    for length in np.unique(windows.length):
        same = windows[windows.length == length]
        batches += [same[start : start + batch_size] for start in range(0, len(same), batch_size)]
    return batches
