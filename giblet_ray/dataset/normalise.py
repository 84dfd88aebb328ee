"""Z-scoring of BOLD, from training TRs alone.

Per voxel, subject and scan, from that scan's own training TRs; a scan that is wholly held out takes
its subject's training scans together. Nothing about the held-out TRs enters, so nothing leaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.reader import Dataset, Selection, Span, as_arrays, bold_column
from giblet_ray.dataset.windows import ScanKey
from giblet_ray.errors import InputError

if TYPE_CHECKING:
    import ray.data


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of rows, per voxel; float64.

    Attributes
    ----------
    n : int
        Rows.
    mean_V, squares_V : ndarray, shape (voxels,)
        Mean, and sum over rows of (x - mean)^2.
    """

    n: int
    mean_V: np.ndarray
    squares_V: np.ndarray

    @classmethod
    def of(cls, bold_TV: np.ndarray) -> Moments:
        """Return the moments of some rows."""
        rows = bold_TV.astype(np.float64)
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, np.square(rows - mean).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows (Chan, Golub & LeVeque 1983, equation 2.1)."""
        n = self.n + other.n
        step = other.mean_V - self.mean_V
        return Moments(
            n,
            self.mean_V + step * (other.n / n),
            self.squares_V + other.squares_V + np.square(step) * (self.n * other.n / n),
        )


@dataclass(frozen=True)
class Normalisation:
    """How BOLD is z-scored.

    Attributes
    ----------
    scans : tuple of ScanKey
        The scans, in the order of the rows below.
    mean_SV, std_SV : ndarray of float32, shape (scans, voxels)
        Of each scan's training TRs (population standard deviation); 0 and 1 where not valid.
    valid_V : ndarray of bool, shape (voxels,)
        Voxels that are finite and vary in the training TRs of every scan. The others take no part
        in loss or metrics.
    """

    scans: tuple[ScanKey, ...]
    mean_SV: np.ndarray
    std_SV: np.ndarray
    valid_V: np.ndarray

    @property
    def n_masked(self) -> int:
        """Voxels that take no part."""
        return int((~self.valid_V).sum())


def normalisation_from_moments(
    scans: Sequence[ScanKey], moments: dict[ScanKey, Moments], where: str
) -> Normalisation:
    """Turn the moments of the training TRs into what each scan is z-scored with.

    Parameters
    ----------
    scans : sequence of ScanKey
        All scans, held-out ones included.
    moments : dict of ScanKey to Moments
        Of the scans that have training TRs.
    where : str
        Location of the data set, for messages.

    Raises
    ------
    InputError
        If a subject has no training TRs, or no voxel is left.
    """
    means, squares, counts = [], [], []
    for scan in scans:
        chosen = moments.get(scan)
        if chosen is None:
            for other in scans:
                if other.subject == scan.subject and other in moments:
                    chosen = chosen.merge(moments[other]) if chosen else moments[other]
        if chosen is None:
            raise InputError(
                f"{where}: subject {scan.subject} has no training TRs to z-score scan "
                f"{scan.stimulus} with; train on another stimulus of this subject, or leave it out"
            )
        means.append(chosen.mean_V)
        squares.append(chosen.squares_V)
        counts.append(chosen.n)
    mean_SV = np.stack(means)
    std_SV = np.sqrt(np.stack(squares) / np.array(counts)[:, None])
    # A voxel counts as constant when it varies by less than float32 resolves about its mean.
    varies = std_SV > np.abs(mean_SV) * np.finfo(np.float32).eps
    valid_V = (np.isfinite(mean_SV) & np.isfinite(std_SV) & varies & (std_SV > 0)).all(axis=0)
    if not valid_V.any():
        raise InputError(f"{where}: every voxel is constant or not finite in the training TRs")
    return Normalisation(
        tuple(scans),
        np.where(valid_V, mean_SV, 0).astype(np.float32),
        np.where(valid_V, std_SV, 1).astype(np.float32),
        valid_V,
    )


def fit_normalisation(
    rows: ray.data.Dataset,
    dataset: Dataset,
    selection: Selection,
    scans: Sequence[ScanKey],
    train: Iterable[Span],
    lag_trs: int,
) -> Normalisation:
    """Compute the z-scoring of all scans in one pass over the BOLD rows, on all nodes.

    Parameters
    ----------
    rows : ray.data.Dataset
        Rows with BOLD as stored, without lag.
    dataset, selection : Dataset, Selection
        What `rows` was read from, and how.
    scans : sequence of ScanKey
        Runs to z-score.
    train : iterable of Span
        Stimulus TRs that train the model.
    lag_trs : int
        Their BOLD lies this many TRs later.

    Raises
    ------
    InputError
        If a file is damaged, a subject has no training TRs, or no voxel is left.
    """
    # Here, so that what is above runs without Ray, as models and metrics do.
    from giblet_ray.dataset.source import plain_errors, task_options

    take = TrainingRows(dataset, selection, scans, train, lag_trs)

    def partial_moments(block: pa.Table) -> pa.Table:
        found = take.moments(block)
        types = (pa.int32(), pa.int32(), pa.int64(), pa.binary(), pa.binary())
        columns = zip(*map(_as_row, found), strict=True) if found else ([] for _ in types)
        names = ("scan", "first", "n", "mean", "squares")
        return pa.table(
            {
                name: pa.array(values, kind)
                for name, values, kind in zip(names, columns, types, strict=True)
            }
        )

    partial: list[PartialMoments] = []
    results = rows.map_batches(
        partial_moments, batch_format="pyarrow", batch_size=None, **task_options()
    )
    with plain_errors():
        for row in results.iter_rows():
            moments = Moments(row["n"], np.frombuffer(row["mean"]), np.frombuffer(row["squares"]))
            partial.append(PartialMoments(row["scan"], row["first"], moments))
    return _normalisation(scans, partial, dataset)


def fit_normalisation_here(
    blocks: Iterable[pa.Table],
    dataset: Dataset,
    selection: Selection,
    scans: Sequence[ScanKey],
    train: Iterable[Span],
    lag_trs: int,
) -> Normalisation:
    """Compute in this process what :func:`fit_normalisation` does on all nodes.

    Over the same blocks the result is the same to the last bit.

    Parameters
    ----------
    blocks : iterable of Table
        Rows with BOLD as stored, without lag.
    dataset, selection, scans, train, lag_trs
        As for :func:`fit_normalisation`.

    Raises
    ------
    InputError
        If a subject has no training TRs, or no voxel is left.
    """
    take = TrainingRows(dataset, selection, scans, train, lag_trs)
    partial = [found for block in blocks for found in take.moments(block)]
    return _normalisation(scans, partial, dataset)


@dataclass(frozen=True)
class PartialMoments:
    """Moments of one scan's training TRs in one block.

    Attributes
    ----------
    scan : int
        Index of the scan.
    first : int
        First of the TRs.
    moments : Moments
        Of their BOLD.
    """

    scan: int
    first: int
    moments: Moments


class TrainingRows:
    """Finds the BOLD of training TRs in blocks of rows; for the parameters, see
    :func:`fit_normalisation`.
    """

    def __init__(
        self,
        dataset: Dataset,
        selection: Selection,
        scans: Sequence[ScanKey],
        train: Iterable[Span],
        lag_trs: int,
    ) -> None:
        self._scans = list(scans)
        self._chosen = {
            name: np.zeros(stimulus.n_trs, dtype=bool) for name, stimulus in dataset.stimuli.items()
        }
        for span in train:
            self._chosen[span.stimulus][span.start + lag_trs : span.stop + lag_trs] = True
        self._kinds = {
            subject: selection.value_type(dataset, bold_column(subject))
            for subject in selection.subjects
        }

    def moments(self, block: pa.Table) -> list[PartialMoments]:
        """Return the moments of a block's training TRs, scan by scan."""
        found = []
        for batch in block.to_batches():
            names = np.asarray(batch.column("stimulus").cast(pa.string()).to_pylist())
            trs = batch.column("tr").to_numpy()
            for index, scan in enumerate(self._scans):
                is_scan = names == scan.stimulus
                take = is_scan.copy()
                take[is_scan] = self._chosen[scan.stimulus][trs[is_scan]]
                if take.any():
                    column = batch.column(bold_column(scan.subject))
                    bold_TV = as_arrays(column, self._kinds[scan.subject])[take]
                    found.append(PartialMoments(index, int(trs[take][0]), Moments.of(bold_TV)))
        return found


def _as_row(found: PartialMoments) -> tuple[int, int, int, bytes, bytes]:
    moments = found.moments
    mean, squares = moments.mean_V.tobytes(), moments.squares_V.tobytes()
    return found.scan, found.first, moments.n, mean, squares


def _normalisation(
    scans: Sequence[ScanKey], partial: Iterable[PartialMoments], dataset: Dataset
) -> Normalisation:
    merged: dict[ScanKey, Moments] = {}
    # In the order of TRs, so that the sums are the same to the last bit whoever finished first.
    for found in sorted(partial, key=lambda each: (each.scan, each.first)):
        scan = scans[found.scan]
        merged[scan] = merged[scan].merge(found.moments) if scan in merged else found.moments
    return normalisation_from_moments(scans, merged, dataset.storage.location)
