"""What a model makes of films before anything that it learns: once, not in each step.

No step changes the colours and components of a TR's pictures (:attr:`Predictor.fixed_vectors`). The
workers share out the rows that a run reads, and each keeps the vectors of all, for as long as it
trains::

    at the start   rows of films  -- loader --> model.fixed_vectors --> table (N, F)
    in each step   BOLD           -- loader ----------------------.
                   vectors        -- table -----------------------+--> batch

Shapes: N rows of films, F numbers of all their vectors, B windows, C TRs of context, W TRs of a
window, S scans.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch, Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import OrderedWindows
from giblet_ray.dataset.windows import Windows, batch_windows, join_windows, part_of
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.models.predictor import Predictor, Shapes
from giblet_ray.training.pace import Rate

if TYPE_CHECKING:
    from giblet_ray.training.loop import Link

KEPT_SHARE = 1 / 80
"""Vectors are kept of so much of what films' rows take at most: by eight workers, a tenth."""
_MADE_TRS = 64
"""TRs that are read at a time, at least a window."""
_FLOAT_BYTES = 4


def parts_to_keep(model: Predictor, shapes: Shapes) -> list[str]:
    """Return the parts whose vectors are kept: those that save most, while there is room."""
    sizes = {part: _FLOAT_BYTES * of.n_features for part, of in model.fixed_vectors.items()}
    room = KEPT_SHARE * sum(shapes.values[part].nbytes for part in shapes.parts)
    kept = []
    for part in sorted(sizes, key=lambda part: sizes[part] / shapes.values[part].nbytes):
        if sizes[part] <= room:
            room -= sizes[part]
            kept.append(part)
    return kept


def vector_bytes(model: Predictor, shapes: Shapes) -> int:
    """Return the bytes of a TR's vectors that are kept."""
    fixed = model.fixed_vectors
    return _FLOAT_BYTES * sum(fixed[part].n_features for part in parts_to_keep(model, shapes))


class FilmRows:
    """The rows of films that windows read, one film after another, each at each of its phases.

    Parameters
    ----------
    windows : Windows
        All that are read.
    scans : sequence of ScanKey
        What a window's scan index means.
    lag_trs, context_trs : int
        See :meth:`Windows.rows`.

    Attributes
    ----------
    n : int
        N.
    """

    def __init__(
        self, windows: Windows, scans: Sequence[ScanKey], lag_trs: int, context_trs: int
    ) -> None:
        self._lag_trs, self._context_trs = lag_trs, context_trs
        number = {film: n for n, film in enumerate(dict.fromkeys(scan.stimulus for scan in scans))}
        self._film_S = np.array([number[scan.stimulus] for scan in scans])
        self._n_phases = int(windows.phase.max(initial=0)) + 1
        n_trs = np.zeros(len(number) * self._n_phases, np.int64)
        np.maximum.at(n_trs, self._film(windows), self._reach(windows)[1])
        self._first = np.concatenate([[0], np.cumsum(n_trs)])
        self.n = int(self._first[-1])

    def of(self, windows: Windows) -> np.ndarray:
        """Return which row each TR of some windows is, (B, C + W); N where there is none."""
        trs, exists = windows.rows(self._lag_trs, self._context_trs)
        first = self._first[self._film(windows)]
        return np.where(exists, first[:, None] + trs, self.n)

    def covering(self, windows: Windows) -> tuple[Windows, np.ndarray]:
        """Return windows that read all rows between them, and the first that each is to make.

        ::

            a     |-----=====|               - context
            b          |-----=====|          b makes what a has not
            c     |-----===|                 c is not needed

        Parameters
        ----------
        windows : Windows
            All that are read.

        Returns
        -------
        windows : Windows
            Some of them, film by film.
        first : ndarray of int64, shape (windows,)
            From this row on, its own are made by it.
        """
        begin, end = self._reach(windows) + self._first[self._film(windows)]
        order = np.lexsort((-end, begin))
        begin, end = begin[order], end[order]
        made = np.maximum.accumulate(np.concatenate([[0], end]))[:-1]
        first = np.maximum(begin, made)
        needed = end > first
        return windows[order[needed]], first[needed]

    def _film(self, windows: Windows) -> np.ndarray:
        return self._film_S[windows.scan] * self._n_phases + windows.phase

    def _reach(self, windows: Windows) -> np.ndarray:
        """Return which TRs of their films windows read, from and to, (2, B)."""
        start = windows.start.astype(np.int64) - self._lag_trs
        return np.clip([start - self._context_trs, start + windows.length], 0, windows.film_trs)


class MadeOnce:
    """A :class:`Loader` of batches with vectors in the place of parts.

    Parameters
    ----------
    loader : Loader
        Delivers the rest.
    parts : sequence of str
        Parts whose vectors are kept.
    rows : FilmRows
        Where the rows lie that batches read.
    table : Tensor
        (N + 1, F) vectors of the parts, one after the other; the last row is of all TRs that do
        not exist.
    sizes : sequence of int
        Numbers of each part's vector.
    """

    def __init__(
        self,
        loader: Loader,
        parts: Sequence[str],
        rows: FilmRows,
        table: Tensor,
        sizes: Sequence[int],
    ) -> None:
        self._loader, self._parts, self._rows = loader, parts, rows
        self._table, self._sizes = table, list(sizes)

    @property
    def seconds_waited(self) -> float:
        """See :class:`Loader`."""
        return self._loader.seconds_waited

    def without(self, names: Collection[str]) -> Self:
        """See :class:`Loader`."""
        fewer = copy.copy(self)
        fewer._loader = self._loader.without(names)
        return fewer

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        """See :class:`Loader`."""
        for batch in self._loader.batches(order):
            rows = torch.from_numpy(self._rows.of(batch.windows))
            taken = self._table.index_select(
                0, rows.flatten().to(self._table.device, non_blocking=True)
            )
            vectors = taken.unflatten(0, tuple(rows.shape)).split(self._sizes, dim=-1)
            yield replace(batch, vectors=dict(zip(self._parts, vectors, strict=True)))


@torch.no_grad()
def make_once(
    model: Predictor,
    loader: Loader,
    windows: OrderedWindows,
    normalisation: Normalisation,
    lag_trs: int,
    shapes: Shapes,
    link: Link,
) -> Loader:
    """Make the vectors that are kept, all ranks together.

    Parameters
    ----------
    model : Predictor
        Prepared, on its device.
    loader, windows, normalisation, link
        As :func:`giblet_ray.training.loop.train` takes them.
    lag_trs : int
        A window's BOLD lies this many TRs after its stimulus.
    shapes : Shapes
        What the model is built for.

    Returns
    -------
    Loader
        What delivers the run's batches: as before, where there is nothing to keep.
    """
    parts = parts_to_keep(model, shapes)
    if not parts:
        return loader
    makers = [model.fixed_vectors[part] for part in parts]
    sizes = [maker.n_features for maker in makers]
    read = join_windows(windows.train, windows.val)
    rows = FilmRows(read, normalisation.scans, lag_trs, model.context_trs)
    table = torch.zeros(rows.n + 1, sum(sizes), device=link.device)
    chosen, first = rows.covering(read)
    size = batch_windows(_MADE_TRS, chosen.shape[1])
    # The same batches for any number of ranks, so that the vectors are the same numbers.
    n_ranks = world_size()
    rank = dist.get_rank() if n_ranks > 1 else 0
    starts = part_of(np.arange(0, len(chosen), size), rank, n_ranks).tolist()
    rate = Rate(len(starts), 0)
    others = [name for name in ("bold", *shapes.parts) if name not in parts]
    batches = loader.without(others).batches([chosen[start : start + size] for start in starts])
    for done, (start, batch) in enumerate(zip(starts, batches, strict=True), start=1):
        of = rows.of(batch.windows)
        new = (of >= first[start : start + size, None]) & (of < rows.n)
        at = torch.from_numpy(new).to(link.device)
        inputs = shapes.inputs({part: batch.values[part][at] for part in parts})
        made = [maker(inputs[part]) for part, maker in zip(parts, makers, strict=True)]
        table[torch.from_numpy(of[new])] = torch.cat(made, dim=1)
        if rank == 0 and rate.is_due():
            share = f"{done / len(starts):.0%}"
            link.show(f"vectors of {', '.join(parts)}  {share}  {rate.left(done)}")
    if n_ranks > 1:
        dist.all_reduce(table)  # each row is 0 on all ranks but one
    model.given_vectors = frozenset(parts)
    return MadeOnce(loader.without(parts), parts, rows, table, sizes)
