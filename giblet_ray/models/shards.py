"""A head whose units are shared out over the workers: each has some units, and reads all rows.

::

    rank 0   hidden of its rows --+-- all-gather --+--> all rows x its units --> part of the loss
    rank 1   hidden of its rows --+                +--> all rows x its units --> part of the loss

    BOLD of a rank's rows, all units  -- all-to-all -->  BOLD of all rows, a rank's units

A unit's row of the last layer needs nobody else's: neither it, nor its gradient, nor the
optimizer's numbers for it ever leave the rank. What is sent is hidden rows, their gradients and
BOLD.

Shapes: B windows of W TRs, H numbers before a head's last layer, V units, R ranks, N windows of all
ranks together.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = datetime.timedelta(hours=12)
"""For the slowest rank to store its files; one that is gone is noticed at once."""


@dataclass(frozen=True)
class RankSizes:
    """How many windows each rank has in a batch, and how long the longest of all is."""

    windows: Sequence[int]
    """Of each rank."""
    trs: int
    """W of the longest."""
    all_there: bool
    """Whether all of them have all their rows."""

    @property
    def most(self) -> int:
        """Windows of the rank that has most."""
        return max(self.windows)

    def padded(self, values_BW: Tensor) -> Tensor:
        """Return one rank's values (B, W, ...) as those of the rank that has most."""
        b, w = values_BW.shape[:2]
        if (b, w) == (self.most, self.trs):
            return values_BW
        padded = values_BW.new_zeros(self.most, self.trs, *values_BW.shape[2:])
        padded[:b, :w] = values_BW
        return padded

    def joined(self, values_RBW: Tensor) -> Tensor:
        """Return the windows of all ranks (N, W, ...), from padded ones (R, most, W, ...)."""
        if all(n == self.most for n in self.windows):
            return values_RBW.flatten(0, 1)
        return torch.cat([of[:n] for of, n in zip(values_RBW, self.windows, strict=True)])

    def apart(self, values_NW: Tensor) -> list[Tensor]:
        """Return the windows of all ranks, (N, W, ...), as those of each."""
        return list(values_NW.split(list(self.windows)))


class UnitShards:
    """Which units are whose, and how rows get to them; all ranks call everything together.

    Parameters
    ----------
    rank, world_size : int
        This rank, and R.
    units : sequence of int
        V of each subject, by its index.
    """

    def __init__(self, rank: int, world_size: int, units: Sequence[int]) -> None:
        self.rank, self.world_size, self._units = rank, world_size, tuple(units)
        backend = dist.get_backend()
        self._sizes = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo")
        """For numbers that the host waits for; a device need not."""
        self._writers = dist.new_group(backend="gloo", timeout=_PATIENCE)
        """For the threads that write checkpoints, which wait for one another."""

    def bounds(self, n_units: int, rank: int | None = None) -> tuple[int, int]:
        """Return the units [start, stop) of so many that a rank has (default: this one)."""
        rank = self.rank if rank is None else rank
        return n_units * rank // self.world_size, n_units * (rank + 1) // self.world_size

    def own(self, rank: int | None = None) -> tuple[int, ...]:
        """Return how many units of each subject a rank has (default: this one)."""
        edges = (self.bounds(n_units, rank) for n_units in self._units)
        return tuple(stop - start for start, stop in edges)

    def cut(self, values_RV: Tensor, subject_R: Tensor, rank: int | None = None) -> Tensor:
        """Return a rank's units of some rows (default: this rank's).

        Parameters
        ----------
        values_RV : Tensor
            (rows, ..., V), V of the subject that has most.
        subject_R : Tensor
            (rows,) int64, whose each row is, on the CPU.
        rank : int, optional
            Whose units.

        Returns
        -------
        Tensor
            (rows, ..., units), units of the subject of which the rank has most; 0 at the end of
            others'.
        """
        width = max(self.own(rank))
        if len(set(self._units)) == 1:
            start, stop = self.bounds(self._units[0], rank)
            return values_RV[..., start:stop]
        cut = values_RV.new_zeros(*values_RV.shape[:-1], width)
        for index in subject_R.unique().tolist():
            start, stop = self.bounds(self._units[index], rank)
            rows = (subject_R == index).nonzero().flatten()
            rows = rows.to(values_RV.device, non_blocking=True)
            cut[rows, ..., : stop - start] = values_RV[rows, ..., start:stop]
        return cut

    def sizes(self, shape: Sequence[int], all_there: bool = True) -> RankSizes:
        """Return how many windows ranks have, of which this one's are (B, W)."""
        told_R3 = self._told(torch.tensor([*shape[:2], int(all_there)]))
        return RankSizes(
            told_R3[:, 0].tolist(), int(told_R3[:, 1].max()), bool(told_R3[:, 2].all())
        )

    def told(self, values_BK: Tensor, sizes: RankSizes) -> Tensor:
        """Return K small numbers of each window of all ranks, (N, K); on the CPU."""
        padded = values_BK.new_zeros(sizes.most, values_BK.shape[1])
        padded[: len(values_BK)] = values_BK
        return sizes.joined(self._told(padded))

    def _told(self, values: Tensor) -> Tensor:
        return self._gathered(values, self._sizes)

    def _gathered(self, values: Tensor, group: Any = None) -> Tensor:
        """Return a tensor of each rank, all of one shape, on a new first axis."""
        of_all = values.new_empty(self.world_size, *values.shape)
        dist.all_gather([*of_all.unbind()], values.contiguous(), group=group)
        return of_all

    def gather(self, rows_BWH: Tensor, sizes: RankSizes) -> Tensor:
        """Return hidden rows of all ranks, (N, W, H).

        Their gradients are summed over the ranks, times R: a trunk's gradients will be averaged.
        """
        gathered: Tensor = _Gather.apply(rows_BWH, sizes, self)
        return gathered

    def to_units(
        self, values_BWV: Tensor, subject_B: Tensor, sizes: RankSizes
    ) -> Callable[[], Tensor]:
        """Begin to send values of this rank's rows to whom their units belong.

        Parameters
        ----------
        values_BWV : Tensor
            (B, W, V).
        subject_B : Tensor
            (B,) int64 on the CPU.
        sizes : RankSizes
            Of the batch.

        Returns
        -------
        callable
            Waits for those that others send: (N, W, own units), as :meth:`cut` orders them.
        """
        values_BWV = values_BWV if values_BWV.is_floating_point() else values_BWV.float()
        padded = sizes.padded(values_BWV)[: len(values_BWV)]
        sent = [self.cut(padded, subject_B, rank) for rank in range(self.world_size)]
        width = max(self.own())
        shapes = [(n, sizes.trs, width) for n in sizes.windows]
        arrive = self._exchange(sent, shapes)
        return lambda: torch.cat(arrive())

    def to_rows(self, values_NWV: Tensor, subject_B: Tensor, sizes: RankSizes) -> Tensor:
        """Return values of this rank's rows, (B, W, V), which each rank has for its units.

        Parameters
        ----------
        values_NWV : Tensor
            (N, W, own units) of all rows.
        subject_B, sizes
            As :meth:`to_units` takes them.
        """
        mine = sizes.windows[self.rank]
        shapes = [(mine, sizes.trs, max(self.own(rank))) for rank in range(self.world_size)]
        pieces = self._exchange(sizes.apart(values_NWV), shapes)()
        if len(set(self._units)) == 1:
            return torch.cat(pieces, dim=-1)
        values_BWV = values_NWV.new_zeros(mine, sizes.trs, max(self._units))
        for index in subject_B.unique().tolist():
            rows = (subject_B == index).nonzero().flatten()
            rows = rows.to(values_NWV.device, non_blocking=True)
            for rank, piece in enumerate(pieces):
                start, stop = self.bounds(self._units[index], rank)
                values_BWV[rows, :, start:stop] = piece[rows, :, : stop - start]
        return values_BWV

    def _exchange(
        self, sent: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]
    ) -> Callable[[], list[Tensor]]:
        """Begin to send a tensor to each rank; the result waits for one of each shape."""
        out = [tensor.numel() for tensor in sent]
        counts = [torch.Size(shape).numel() for shape in shapes]
        given = torch.cat([tensor.flatten() for tensor in sent])
        arriving = given.new_empty(sum(counts))
        work: Any = dist.all_to_all_single(arriving, given, counts, out, async_op=True)

        def arrived() -> list[Tensor]:
            work.wait()
            _ = given  # held until it has been sent
            pieces = arriving.split(counts)
            return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

        return arrived

    def of_writers(self, told: Any) -> list[Any]:
        """Return what the ranks' writing threads tell one another, of each."""
        of_ranks: list[Any] = [None] * self.world_size
        dist.all_gather_object(of_ranks, told, group=self._writers)
        return of_ranks


class _Gather(torch.autograd.Function):
    """See :meth:`UnitShards.gather`."""

    @staticmethod
    def forward(ctx: Any, rows_BWH: Tensor, sizes: RankSizes, shards: UnitShards) -> Tensor:
        ctx.shape, ctx.sizes, ctx.shards = rows_BWH.shape, sizes, shards
        return sizes.joined(shards._gathered(sizes.padded(rows_BWH)))

    @staticmethod
    def backward(ctx: Any, gradient_NWH: Tensor) -> tuple[Tensor, None, None]:
        sizes, shards = ctx.sizes, ctx.shards
        n = sizes.windows[shards.rank]
        shapes = [(n, *gradient_NWH.shape[1:])] * shards.world_size
        of_units = shards._exchange(sizes.apart(gradient_NWH), shapes)()
        # In float32, as where a product of matrices sums over units.
        summed = torch.zeros_like(of_units[0], dtype=torch.float32)
        for each in of_units:
            summed += each
        scaled = (summed[:, : ctx.shape[1]] * shards.world_size).to(gradient_NWH.dtype)
        return scaled, None, None
