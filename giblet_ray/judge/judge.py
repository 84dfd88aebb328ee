"""Judging a run that is finished: its chosen checkpoint, on TRs that nothing was chosen on, once.

::

    training TRs   -> weights
    validation TRs -> epoch, trial, champion
    test TRs       -> this, and nothing else
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.checkpoint.judged import Judged, count_reading, keep_judged, read_judged
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.own_metrics import HeldOutRows, load_metrics
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.folds import Folds, Rows, valid_units
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.rows import pieces_of
from giblet_ray.progress import Progress


def judge_run(
    storage: Storage,
    run: str,
    dataset: Dataset | None,
    packages: Iterable[str],
    show: Callable[[str], None],
) -> Judged:
    """Return the test scores of a run's best checkpoint; they are kept in the run's folder.

    A checkpoint that has been judged is not judged again: its scores are read.

    Parameters
    ----------
    storage, run : Storage, str
        Where the run is.
    dataset : Dataset or None
        Its data set, where that is open already.
    packages : iterable of str
        Packages that its model may be imported from.
    show : callable
        Takes each line that the user should see.

    Raises
    ------
    InputError
        If checkpoint or data set cannot be read.
    """
    before = read_judged(storage, run)
    location = storage.describe(run)
    checkpoint = find_checkpoint(location)
    if before is not None and before.weights == checkpoint.record.weights_checksum:
        return before
    opened = open_run(location, None, lambda where: dataset or Dataset.open(where), packages)
    with Progress(show) as progress:
        scores, own = score_test(
            opened, lambda done: setattr(progress, "doing", f"test TRs {done:.0%}")
        )
    return keep_test(storage, run, opened, scores, own)


def keep_test(
    storage: Storage,
    run: str,
    opened: OpenedRun,
    scores: HeldOutScores,
    own: Mapping[str, float],
) -> Judged:
    """Keep the scores of a run's test in its folder, as of one reading more; return them.

    Parameters
    ----------
    storage, run : Storage, str
        Where the run is.
    opened, scores, own
        As :func:`judged_of` takes them.
    """
    judged = judged_of(opened, scores, own, count_reading(storage, run))
    keep_judged(storage, run, judged)
    return judged


def judged_of(
    opened: OpenedRun, scores: HeldOutScores, own: Mapping[str, float], readings: int
) -> Judged:
    """Return scores of a run's test, and its user's own metrics, by their names."""
    scored = [np.isfinite(each.pearson_V).sum() for each in scores.subjects.values()]
    return Judged(
        checkpoint=opened.checkpoint.label,
        weights=opened.checkpoint.record.weights_checksum,
        name=name_of_test(opened),
        n_trs=sum(each.n_trs for each in scores.subjects.values()),
        n_units=int(max(scored)),
        metrics=scores.summary() | dict(own),
        subjects={subject: each.summary() for subject, each in scores.subjects.items()},
        readings=readings,
    )


def name_of_test(opened: OpenedRun) -> Literal["test", "test_seen_film"]:
    """Return what scores of a run's test TRs are called."""
    return "test_seen_film" if opened.data.split.test_film_is_seen else "test"


class TallyOfTest:
    """Scores of the test TRs of scans, added up piece by piece.

    Rows are kept only where the run has metrics of its user's own, which are computed from them.

    Parameters
    ----------
    opened : OpenedRun
        The run.
    subjects : sequence of str
        The subject of each scan.
    valid : mapping of str to ndarray
        (units,) bool of each subject, those that are scored.
    """

    def __init__(
        self,
        opened: OpenedRun,
        subjects: Sequence[str],
        valid: Mapping[str, NDArray[np.bool_]],
    ) -> None:
        units, is_shared = opened.data.units, opened.data.units_are_shared
        n_units = [units[subject] for subject in subjects]
        paths = opened.checkpoint.record.config["train"]["metrics"]
        self._metrics = load_metrics(paths, opened.packages)
        self._sums = ScanSums(subjects, n_units, units_are_shared=is_shared)
        self._rows = HeldOutRows(subjects, max(n_units), torch.device("cpu"), is_shared)
        self._valid = [valid[subject] for subject in subjects]

    def add(
        self, scan: int, tr_T: NDArray[np.integer], prediction_TV: Tensor, bold_TV: Tensor
    ) -> None:
        """Add TRs of the scan of this index: (T,), and (T, units) predicted and measured."""
        self._sums.add(scan, prediction_TV, bold_TV)
        if self._metrics:
            scan_T = torch.full((len(tr_T),), scan)
            self._rows.add(scan_T, torch.from_numpy(tr_T), prediction_TV, bold_TV)

    def compute(self) -> tuple[HeldOutScores, dict[str, float]]:
        """Return the scores, and the user's own metrics by the names of their functions."""
        most = max(map(len, self._valid))
        valid_SV = np.stack([np.pad(each, (0, most - len(each))) for each in self._valid])
        own = self._rows.compute(self._metrics, torch.from_numpy(valid_SV))
        of_test = {name.removeprefix("val/"): value for name, value in own.items()}
        return self._sums.compute(self._valid), of_test


def score_test(
    opened: OpenedRun, report: Callable[[float], None] = lambda done: None
) -> tuple[HeldOutScores, dict[str, float]]:
    """Predict the test TRs from a run's best checkpoint, and score them; see :class:`TallyOfTest`.

    Raises
    ------
    InputError
        If weights or data cannot be read, or nothing can be scored.
    """
    scans = opened.scans_in("test")
    subjects = [scan.subject for scan in scans]
    scores = TallyOfTest(opened, subjects, {name: opened.valid(name) for name in subjects})
    for scan, (tr_T, prediction_TV, bold_TV) in pieces_of(opened, "test", report):
        pair = torch.from_numpy(prediction_TV), torch.from_numpy(bold_TV)
        scores.add(scans.index(scan), tr_T, *pair)
    return scores.compute()


def tally_rows(rows: Rows, folds: Folds) -> tuple[HeldOutScores, dict[str, float]]:
    """Score test TRs that are in memory, of a run or its folds; see :class:`TallyOfTest`."""
    tally = TallyOfTest(folds[0], [scan.subject for scan in rows], valid_units(folds))
    for index, each in enumerate(rows.values()):
        tally.add(index, each.tr_T, each.prediction_TV, each.bold_TV)
    return tally.compute()
