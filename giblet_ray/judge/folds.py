"""One run, or the folds of one: every TR is test in one fold, and all of them are judged together.

::

    film          |============|============|============|
    fold 1        |****test****|            |            |     predicted by the model of fold 1
    fold 2        |            |****test****|            |     of fold 2
    fold 3        |            |            |****test****|     of fold 3
    gathered      |****************test******************|     one r of each scan and unit

Shapes: T test TRs of a scan, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.judge.rows import Predicts, all_rows


@dataclass(frozen=True)
class GatheredRows(ScanRows):
    """Test TRs of a scan that lie in several folds."""

    std_V: NDArray[np.float64]
    """(V,) of its BOLD over all of them: what prediction and BOLD were divided by."""


Folds = Sequence[OpenedRun]
"""Runs that are judged as one: one run, or all folds of a training."""
Rows = dict[ScanKey, ScanRows]
Valid = Mapping[str, NDArray[np.bool_]]
"""Units of each subject that are scored, (V,)."""
Report = Callable[[float], None]


def part_of(report: Report, index: int, n: int) -> Report:
    """Return what is told the share of the part of this index, of n that are as much work each."""
    return lambda done: report((index + done) / n)


def valid_units(folds: Folds) -> Valid:
    """Return the units that took part in a subject in all of them, by subject."""
    subjects = {scan.subject for scan in folds[0].scans}
    return {
        subject: np.logical_and.reduce([each.valid(subject) for each in folds])
        for subject in subjects
    }


def check_folds(folds: Folds) -> None:
    """Make sure that runs are folds of one training.

    Raises
    ------
    InputError
        If they differ in more than their fold.
    """
    first = _but_for_the_fold(folds[0])
    for each in folds[1:]:
        other = _but_for_the_fold(each)
        differ = [name for name, value in first.items() if other[name] != value]
        if differ:
            names = [fold.checkpoint.record.config["name"] for fold in (folds[0], each)]
            raise InputError(
                f"runs {names[0]} and {names[1]}: differ in their {', '.join(differ)}, where folds "
                "of one training are accepted"
            )


def gathered_rows(
    folds: Folds,
    report: Report = lambda done: None,
    load: Callable[[OpenedRun], Predicts] = OpenedRun.load,
) -> Rows:
    """Return the test TRs of each scan, each predicted by the run that it is test in.

    A run z-scores a scan by its own training TRs. BOLD of several folds is put back, and z-scored
    over all that is test in one of them; a prediction, which is a deviation from the mean of its
    training TRs, is put back on BOLD's scale and taken for a deviation from the scan's own mean.
    The other way, by the mean of its training TRs, a fold would be predicted low where it is high.

    Parameters
    ----------
    folds : sequence of OpenedRun
        One run, whose rows are as it was given them, or folds.
    report : callable, optional
        Is told the share that is done.
    load : callable, optional
        Gives what predicts instead of the run's own model.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    if len(folds) == 1:
        return all_rows(folds[0], report, load(folds[0]))
    found: dict[ScanKey, list[tuple[NDArray, NDArray, NDArray]]] = {}
    for index, fold in enumerate(folds):
        rows = all_rows(fold, part_of(report, index, len(folds)), load(fold))
        for scan, each in rows.items():
            row = fold.scans.index(scan)
            n_units = each.bold_TV.shape[1]
            mean_V, std_V = (
                of[row, :n_units].astype(np.float64) for of in (fold.mean_SV, fold.std_SV)
            )
            prediction_TV, bold_TV = (
                np.asarray(of, np.float64) * std_V for of in (each.prediction_TV, each.bold_TV)
            )
            found.setdefault(scan, []).append((each.tr_T, prediction_TV, bold_TV + mean_V))
    valid = valid_units(folds)
    return {scan: _joined(scan, pieces, valid[scan.subject]) for scan, pieces in found.items()}


def score_rows(rows: Rows, valid: Valid) -> HeldOutScores:
    """Score test TRs: one sum of each scan and unit, whichever folds its TRs are of.

    Raises
    ------
    InputError
        If nothing can be scored.
    """
    subjects = [scan.subject for scan in rows]
    sums = ScanSums(subjects, [len(valid[subject]) for subject in subjects])
    for index, each in enumerate(rows.values()):
        sums.add(index, each.prediction_TV, each.bold_TV)
    return sums.compute([valid[scan.subject] for scan in rows])


def _joined(
    scan: ScanKey, pieces: Sequence[tuple[NDArray, NDArray, NDArray]], valid_V: NDArray[np.bool_]
) -> GatheredRows:
    tr_T, prediction_TV, bold_TV = map(np.concatenate, zip(*pieces, strict=True))
    order = np.argsort(tr_T)
    bold_TV = np.where(valid_V, bold_TV, 0.0)
    std_V = bold_TV.std(axis=0)
    std_V = np.where(std_V > 0, std_V, 1.0)
    pair = (prediction_TV / std_V, (bold_TV - bold_TV.mean(axis=0)) / std_V)
    prediction, bold = (torch.from_numpy(each[order].astype(np.float32)) for each in pair)
    return GatheredRows(scan.subject, scan.stimulus, tr_T[order], prediction, bold, std_V)


def _but_for_the_fold(opened: OpenedRun) -> dict[str, Any]:
    """Return what folds of one training have in common."""
    record = opened.checkpoint.record
    data = record.config["data"]
    split = {name: value for name, value in data["split"].items() if name != "fold"}
    units = [each.summary for each in record.units]
    return {
        "data set": record.dataset.checksum,
        "data": {name: value for name, value in data.items() if name not in ("split", "voxels")},
        "data.split": split,
        "units": units,
        "model": record.config["model"],
    }
