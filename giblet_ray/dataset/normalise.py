"""Z-scoring of BOLD, from training TRs alone.

Per unit, subject and scan, from that scan's own training TRs; a scan that is wholly held out is
z-scored by itself, so that an offset or gain of its own moves no score. Of held-out TRs nothing
else enters but whether they are finite: a unit with a number that is not, in any TR of a subject
that trains or judges, takes no part in that subject. It stays in the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Dataset, Selection
from giblet_ray.dataset.splits import Use
from giblet_ray.errors import InputError


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
        if not len(rows):
            return cls(0, *np.zeros((2, rows.shape[1])))
        # Numbers that are not finite make their voxel NaN, as they should; it takes no part.
        with np.errstate(invalid="ignore", over="ignore"):
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
        Of each scan's training TRs, or of all that judge where none trains (population standard
        deviation); 0 and 1 where not valid. Voxels are as many as the subject with most has.
    valid_SV : ndarray of bool, shape (scans, voxels)
        Voxels that are finite in the scan's subject's TRs that train or judge, and vary in the
        training TRs of each of the subject's scans: the same in all of them. The others take no
        part in the subject's loss and metrics.
    n_masked : int
        Voxels that take no part, those of all subjects together.
    n_not_finite : int
        How many of them are not finite somewhere.
    """

    scans: tuple[ScanKey, ...]
    mean_SV: np.ndarray
    std_SV: np.ndarray
    valid_SV: np.ndarray
    n_masked: int = 0
    n_not_finite: int = 0


def normalisation_from_moments(
    scans: Sequence[ScanKey],
    moments: Mapping[ScanKey, Moments],
    trained: Set[ScanKey],
    finite: Mapping[str, np.ndarray],
    where: str,
) -> Normalisation:
    """Turn the moments of the training TRs into what each scan is z-scored with.

    Parameters
    ----------
    scans : sequence of ScanKey
        All scans, held-out ones included.
    moments : mapping of ScanKey to Moments
        Of the TRs that each is z-scored by.
    trained : set of ScanKey
        Scans that have training TRs.
    finite : mapping of str to ndarray of bool, shape (voxels,)
        Voxels that are finite in all TRs of a subject that train or judge.
    where : str
        Location of the data set, for messages.

    Raises
    ------
    InputError
        If a subject has no training TRs, or no voxel of one is left.
    """
    for subject in dict.fromkeys(scan.subject for scan in scans):
        if not any(scan.subject == subject for scan in trained):
            raise InputError(
                f"{where}: subject {subject} has no training TRs; train on another stimulus of "
                "this subject, or leave it out"
            )
    most = max(map(len, finite.values()))
    # Of a scan without a TR that is used, nothing is z-scored.
    nothing = Moments(1, *np.zeros((2, most)))
    found = [moments.get(scan, nothing) for scan in scans]
    mean_SV = np.stack([_widened(each.mean_V, most) for each in found])
    std_SV = np.stack([_widened(np.sqrt(each.squares_V / each.n), most) for each in found])
    # A voxel counts as constant when it varies by less than float32 resolves about its mean.
    varies_SV = (std_SV > np.abs(mean_SV) * np.finfo(np.float32).eps) & (std_SV > 0)
    valid = {}
    for subject, finite_V in finite.items():
        trains_S = [scan in trained and scan.subject == subject for scan in scans]
        valid[subject] = _widened(finite_V, most) & varies_SV[trains_S].all(axis=0)
        if not valid[subject].any():
            raise InputError(
                f"{where}: every voxel of subject {subject} is constant in the training TRs of "
                "some scan, or not finite in a TR that trains or judges"
            )
    valid_SV = np.stack([valid[scan.subject] for scan in scans])
    return Normalisation(
        tuple(scans),
        np.where(valid_SV, mean_SV, 0).astype(np.float32),
        np.where(valid_SV & varies_SV, std_SV, 1).astype(np.float32),
        valid_SV,
        sum(len(finite_V) - int(valid[subject].sum()) for subject, finite_V in finite.items()),
        sum(int((~finite_V).sum()) for finite_V in finite.values()),
    )


def _widened(values_V: np.ndarray, n: int) -> np.ndarray:
    """Give a subject with fewer units than others as many: 0, or False, at their end."""
    return np.pad(values_V, (0, n - len(values_V)))


@dataclass(frozen=True)
class PartialMoments:
    """What one block holds of one scan.

    Attributes
    ----------
    scan : int
        Index of the scan.
    first : int
        First of its TRs that are used.
    moments : Moments
        Of the BOLD of training TRs, of which there may be none; where none of the whole scan
        trains, of those that judge.
    finite_V : ndarray of bool, shape (voxels,)
        Voxels that are finite in all TRs that train or judge.
    """

    scan: int
    first: int
    moments: Moments
    finite_V: np.ndarray


class UsedRows:
    """Finds the BOLD of the TRs that train or judge in blocks of rows.

    Parameters
    ----------
    dataset, selection : Dataset, Selection
        What the rows are read from, and how.
    scans : sequence of ScanKey
        Whose BOLD is z-scored.
    uses : sequence of ndarray
        What each scan's TRs are for; see :attr:`giblet_ray.dataset.view.DataView.uses`.
    """

    def __init__(
        self,
        dataset: Dataset,
        selection: Selection,
        scans: Sequence[ScanKey],
        uses: Sequence[np.ndarray],
    ) -> None:
        self._where = dataset.storage.location
        self._scans, self._uses = tuple(scans), uses
        self._of_film: dict[str, list[int]] = {}
        for index, scan in enumerate(scans):
            self._of_film.setdefault(scan.stimulus, []).append(index)
        # What z-scores a scan: its training TRs, or all that it has if none trains.
        self._by = [use.max(initial=Use.NONE) for use in uses]
        self._kinds = {
            subject: selection.value_type(dataset, bold_column(subject))
            for subject in selection.subjects
        }

    def moments(self, block: pa.Table) -> list[PartialMoments]:
        """Return what a block holds of each scan."""
        found = []
        for batch in block.to_batches():
            names = np.asarray(batch.column("stimulus").cast(pa.string()).to_pylist())
            # BOLD is the same beside the other phases.
            names[batch.column("phase").to_numpy() > 0] = ""
            trs = batch.column("tr").to_numpy()
            for index in (i for name in np.unique(names) for i in self._of_film.get(name, ())):
                scan = self._scans[index]
                rows = np.flatnonzero(names == scan.stimulus)
                use = self._uses[index][trs[rows]]
                rows, use = rows[use > Use.NONE], use[use > Use.NONE]
                if len(rows):
                    column = batch.column(bold_column(scan.subject, scan.repeat))
                    bold_TV = as_arrays(column, self._kinds[scan.subject])[rows]
                    finite_V = np.isfinite(bold_TV).all(axis=0)
                    moments = Moments.of(bold_TV[use == self._by[index]])
                    found.append(PartialMoments(index, int(trs[rows[0]]), moments, finite_V))
        return found

    def fit(self, blocks: Iterable[pa.Table]) -> Normalisation:
        """Compute the z-scoring of all scans from blocks with BOLD as stored.

        Raises
        ------
        InputError
            If a subject has no training TRs, or no voxel of one is left.
        """
        return self.merge(found for block in blocks for found in self.moments(block))

    def merge(self, partial: Iterable[PartialMoments]) -> Normalisation:
        """Compute it from what all blocks hold, in any order; see :meth:`fit`."""
        merged: dict[ScanKey, Moments] = {}
        finite = {subject: np.ones(kind.shape, bool) for subject, kind in self._kinds.items()}
        # In the order of TRs, so that the sums are the same to the last bit whoever was first.
        for found in sorted(partial, key=lambda each: (each.scan, each.first)):
            scan = self._scans[found.scan]
            if found.moments.n:
                before = merged.get(scan)
                merged[scan] = before.merge(found.moments) if before else found.moments
            finite[scan.subject] = finite[scan.subject] & found.finite_V
        trained = {s for s, by in zip(self._scans, self._by, strict=True) if by == Use.TRAINS}
        return normalisation_from_moments(self._scans, merged, trained, finite, self._where)
