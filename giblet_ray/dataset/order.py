"""The order in which a run's windows train: pure functions of numbers that every rank knows.

An epoch is one permutation of all training windows, drawn from (seed, epoch). Global batch s is its
s-th slice, and rank r takes the r-th part of that::

    permutation(seed, epoch)   | batch 0           | batch 1           | batch 2 ...
                               | rank 0  | rank 1  | rank 0  | rank 1  | ...

so the global batches are the same whatever the number of ranks, every window is seen once per
epoch by one rank, and any step can be returned to. What the permutation is drawn from is part of a
run's record: it goes on with that order wherever its rows lie, and with however many ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from giblet_ray.dataset.windows import Windows, part_of
from giblet_ray.settings import Group

STREAM_MIX_ROW_GROUPS = 16
"""Row groups whose windows are shuffled together where the data is streamed."""
STREAM_READERS = 4
"""Threads that read for one worker: most of the time they wait, for a disk or a network."""
STREAM_AHEAD_BYTES = 64 * 2**20
"""So much may be read before it is needed; a span for each reader at least."""


class StreamedOrder(Group):
    """What an order is drawn from, beside the rest, that visits few row groups at a time."""

    row_group_trs: int = Field(ge=1)
    """TRs per row group."""
    mix: int = Field(STREAM_MIX_ROW_GROUPS, ge=1)
    """Row groups whose windows are shuffled together."""
    lanes: int = Field(ge=1)
    """Stretches of the permutation that every batch takes its windows from: as many as there might
    be ranks, so that few row groups are read by two of them."""


class DataOrder(Group):
    """The identity of an order: two that are equal give the same windows at every step."""

    seed: int = Field(ge=0)
    """Seed of the permutations."""
    windows: int = Field(ge=1)
    """Training windows."""
    window: int = Field(1, ge=1)
    """TRs of one of them, at most."""
    batch_size: int = Field(ge=1)
    """Windows of a global batch."""
    smallest_batch: int = Field(ge=1)
    """Windows that the last batch of an epoch has at least; fewer are left out of that epoch."""
    streamed: StreamedOrder | None = None
    """For data that was streamed when the run began; None: a permutation of all windows."""

    @property
    def last_batch(self) -> int:
        """Windows of the smallest batch."""
        rest = self.windows % self.batch_size
        return rest if rest >= self.smallest_batch else self.batch_size

    @property
    def left_out(self) -> int:
        """Windows at the end of each permutation that are too few for a batch."""
        rest = self.windows % self.batch_size
        return rest if rest < self.smallest_batch else 0

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-(self.windows - self.left_out) // self.batch_size)

    def epoch(self, epoch: int, row_group: np.ndarray) -> np.ndarray:
        """Return the windows of an epoch (counted from 0) in their order, shape (windows,).

        Parameters
        ----------
        epoch : int
            Which epoch.
        row_group : ndarray of int, shape (windows,)
            Row group of each window.
        """
        if self.streamed is None:
            return epoch_order(self.windows, self.seed, epoch)
        order = streamed_epoch_order(row_group, self.streamed.mix, self.seed, epoch)
        return interleaved(order, self.batch_size, self.smallest_batch, self.streamed.lanes)


@dataclass(frozen=True)
class Step:
    """One optimiser step of one rank.

    Attributes
    ----------
    windows : ndarray of int
        Indices of the rank's windows.
    n_trs : int
        BOLD TRs of all ranks' windows together.
    """

    windows: np.ndarray
    n_trs: int


@dataclass(frozen=True)
class OrderedWindows:
    """The windows of a training, and the order that they train in.

    Attributes
    ----------
    train, val : Windows
        Those that train and those that judge.
    row_group : ndarray of int
        Row group of each training window, numbered over all stimuli.
    order : DataOrder
        Of the training windows.
    """

    train: Windows
    val: Windows
    row_group: np.ndarray
    order: DataOrder

    def steps(self, epoch: int, rank: int, world_size: int) -> list[Step]:
        """Return a rank's steps of an epoch (counted from 0)."""
        order = self.order.epoch(epoch, self.row_group)
        batches = epoch_batches(order, self.order.batch_size, self.order.smallest_batch)
        return [
            Step(part_of(batch, rank, world_size), int(self.train.length[batch].sum()))
            for batch in batches
        ]


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
    there = np.bincount(group) > 0
    place = random.permutation(int(there.sum()))[(np.cumsum(there) - 1)[group]]
    return np.argsort(place + mix * random.random(len(group)))


def epoch_batches(order: np.ndarray, batch_size: int, smallest: int) -> list[np.ndarray]:
    """Cut an epoch's order into global batches.

    The last batch holds what is left, if that is at least `smallest` windows; else it is left
    out of this epoch.
    """
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batch for batch in batches if len(batch) >= smallest]


def interleaved(order: np.ndarray, batch_size: int, smallest: int, lanes: int) -> np.ndarray:
    """Return an epoch's order in which every batch takes its windows from stretches of another.

    Batches have the sizes that :func:`epoch_batches` gives them, but their windows come from
    consecutive stretches of the order, the lanes, so that few row groups are read by two ranks::

        order    | lane 0          | lane 1          |
        step     | 0 | 1 | 2 | ... | 0 | 1 | 2 | ... |    batch s: the s-th piece of every lane
        2 ranks    rank 0            rank 1
        1 rank     rank 0            rank 0

    Parameters
    ----------
    order : ndarray of int
        Windows in the order of the epoch.
    batch_size, smallest : int
        As :func:`epoch_batches` takes them.
    lanes : int
        Stretches.
    """
    n_S = np.array([len(batch) for batch in epoch_batches(order, batch_size, smallest)], np.int64)
    edges = n_S * np.arange(lanes + 1)[:, None] // lanes
    sizes_LS = np.diff(edges, axis=0)
    starts_LS = np.cumsum(sizes_LS).reshape(sizes_LS.shape) - sizes_LS
    # From the place of each window in the new order to that in the old: a shift for each piece.
    sizes = sizes_LS.T.ravel()
    shifts = starts_LS.T.ravel() - (np.cumsum(sizes) - sizes)
    places = np.arange(len(order))
    places[: int(n_S.sum())] += np.repeat(shifts, sizes)
    return order[places]
