"""What runs predict of their validation TRs, and the weights that stack them.

Predictions of all members are needed at once, and are kept in a temporary file meanwhile: 4 bytes
per member, TR of a scan and unit. What is in memory is one model, or a scan.

Shapes: M members, N rows (validation TRs of scans), T of them of a scan, V units, U some of them,
K folds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.checkpoint.files import writing
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.splits import response_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import z_scored
from giblet_ray.judge.folds import part_of
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.judge.rows import pieces_of
from giblet_ray.models.folds import gapped_folds
from giblet_ray.models.stack.weights import Sums, Weights, find_weights

N_FOLDS = 5
_UNITS_AT_A_TIME = 2048

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Predicted:
    """Validation TRs of scans that share their weights: those of one subject, or all.

    Attributes
    ----------
    scans : tuple of ScanKey
        One after another.
    scan_N, tr_N : ndarray of int
        Number of each row's scan, and its BOLD TR.
    predicted_MNV, bold_NV : ndarray of float32
        In a file; 0 where a unit took no part in the subject.
    """

    scans: tuple[ScanKey, ...]
    scan_N: NDArray[np.int64]
    tr_N: NDArray[np.int64]
    predicted_MNV: np.memmap
    bold_NV: np.memmap

    def rows_of(self, scan: int) -> slice:
        """Return which rows are of the scan of this number."""
        return slice(*np.searchsorted(self.scan_N, [scan, scan + 1]).tolist())

    def find_weights(self, gap_trs: int) -> Weights:
        """Return the weights of the members."""
        folds, all_rows = self.folds(gap_trs), np.arange(len(self.tr_N))
        sets = [all_rows, *(rows for fold in folds for rows in fold)]
        is_in = [torch.from_numpy(np.isin(all_rows, rows)) for rows in sets]
        found: list[list[Sums]] = []
        for start in range(0, self.bold_NV.shape[1], _UNITS_AT_A_TIME):
            total: list[Sums] = []
            for scan in range(len(self.scans)):
                rows, units = self.rows_of(scan), slice(start, start + _UNITS_AT_A_TIME)
                predicted_MTU, bold_TU = self._about_means(rows, units)
                here = (of_set[rows] for of_set in is_in)
                added = [Sums.of(predicted_MTU[:, in_T], bold_TU[in_T]) for in_T in here]
                total = [a + b for a, b in zip(total, added, strict=True)] if total else added
            found.append(total)
        every, *of_folds = (Sums.joined(of_units) for of_units in zip(*found, strict=True))
        return find_weights(every, list(zip(of_folds[::2], of_folds[1::2], strict=True)))

    def folds(self, gap_trs: int) -> list[Fold]:
        """Return stretches that are predicted, each with weights of the rest but for its gaps.

        None where one would leave less than a gap's length, the haemodynamic response, to find
        weights by.
        """
        films = list(dict.fromkeys(scan.stimulus for scan in self.scans))
        film_S = np.array([films.index(scan.stimulus) for scan in self.scans])
        film_N = film_S[self.scan_N]
        folds = gapped_folds(film_N, self.tr_N, N_FOLDS, gap_trs)
        left = (len({*zip(film_N[fit], self.tr_N[fit], strict=True)}) for fit, _ in folds)
        return folds if min(left) >= gap_trs else []

    def stacked(self, weights: Weights, gap_trs: int) -> Iterator[NDArray[np.float32]]:
        """Yield the stack's prediction (T, V) of each scan, by weights found without each TR.

        Where there are no folds, by the weights of all: those are common ones.
        """
        folds, fold_N = self.folds(gap_trs), np.zeros(len(self.tr_N), np.int64)
        for index, (_, rows) in enumerate(folds):
            fold_N[rows] = index
        found_KVM = (weights.folds_KVM if folds else weights.own_VM[None]).float().numpy()
        for scan in range(len(self.scans)):
            rows_T = self.rows_of(scan)
            stacked_TV = np.zeros_like(self.bold_NV[rows_T])
            for member, predicted_NV in enumerate(self.predicted_MNV):
                stacked_TV += found_KVM[fold_N[rows_T], :, member] * predicted_NV[rows_T]
            yield stacked_TV

    def _about_means(self, rows: slice, units: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return predictions and z-scored BOLD of some units of a scan, about their means."""
        predicted_MTU = torch.from_numpy(self.predicted_MNV[:, rows, units].astype(np.float64))
        bold_TU = torch.from_numpy(self.bold_NV[rows, units].astype(np.float64))
        return predicted_MTU - predicted_MTU.mean(1, keepdim=True), z_scored(bold_TU)[0]


def predict_validation(
    members: Sequence[OpenedRun], shared: bool, folder: Path, report: Callable[[float], None]
) -> dict[str, Predicted]:
    """Predict the validation TRs of all scans with each member.

    Parameters
    ----------
    members : sequence of OpenedRun
        Of the same data, split and units.
    shared : bool
        Whether subjects share their weights.
    folder : Path
        For the files that predictions are kept in.
    report : callable
        Is told the share that is done.

    Returns
    -------
    dict of str to Predicted
        By subject; of all, by ``all``.

    Raises
    ------
    InputError
        If weights or data cannot be read, or a prediction is not finite.
    """
    first = members[0]
    spans, scans = first.data.split.val, first.scans_in("val")
    of: dict[str, list[ScanKey]] = {}
    for scan in scans:
        of.setdefault("all" if shared else scan.subject, []).append(scan)
    found = {
        name: _empty(first, tuple(mine), spans, len(members), folder / f"{index}")
        for index, (name, mine) in enumerate(of.items())
    }
    for index, opened in enumerate(members):
        share = part_of(report, index, len(members))
        for scan, (tr_T, prediction_TV, bold_TV) in pieces_of(opened, "val", share):
            into = found["all" if shared else scan.subject]
            mine = into.scan_N == into.scans.index(scan)
            at = np.flatnonzero(mine & np.isin(into.tr_N, tr_T))
            valid_V = opened.valid(scan.subject)
            if not np.isfinite(prediction_TV[:, valid_V]).all():
                name = opened.checkpoint.record.config["name"]
                raise InputError(
                    f"run {name}: predicts a number that is not finite of {scan}; its training "
                    "diverged, or its weights are damaged"
                )
            into.predicted_MNV[index, at] = np.where(valid_V, prediction_TV, 0)
            into.bold_NV[at] = bold_TV
    return found


def _empty(
    opened: OpenedRun, scans: tuple[ScanKey, ...], spans: Sequence[Span], n: int, file: Path
) -> Predicted:
    """Return a place for the predictions of n members."""
    trs = []
    for scan in scans:
        usable = opened.data.dataset.usable_trs(scan)
        mine = [np.arange(s.start, s.stop) for s in spans if s.stimulus == scan.stimulus]
        trs.append(np.sort(np.concatenate([tr_T[usable[tr_T]] for tr_T in mine])))
    n_rows, n_units = sum(map(len, trs)), len(opened.valid(scans[0].subject))
    return Predicted(
        scans,
        np.repeat(np.arange(len(scans)), list(map(len, trs))),
        np.concatenate(trs),
        _mapped(Path(f"{file}-predicted"), (n, n_rows, n_units)),
        _mapped(Path(f"{file}-bold"), (n_rows, n_units)),
    )


def _mapped(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return an array of 0 in a new file, whose room is taken: a disk that is full when a mapped
    array is written to ends the process without a word."""
    with writing(file.parent, "predictions of validation TRs"):
        with file.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, 4 * math.prod(shape))
        return np.memmap(file, np.float32, "r+", shape=shape)


def gap_of(opened: OpenedRun) -> int:
    """Return the gap between folds (TRs): the haemodynamic response."""
    return response_trs(opened.data.dataset.manifest.tr_seconds)
