"""Judging a run that is finished: its chosen checkpoint, on TRs that nothing was chosen on, once.

::

    training TRs   -> weights
    validation TRs -> epoch, trial, champion
    test TRs       -> this, and nothing else
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from giblet_ray.checkpoint.judged import Judged, keep_judged, read_judged
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.judge.opened import OpenedRun, open_run
from giblet_ray.judge.rows import judged_scans, pieces_of_test
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
        scores = score_test(opened, lambda done: setattr(progress, "doing", f"test TRs {done:.0%}"))
    judged = judged_of(opened, scores, 1 if before is None else before.readings + 1)
    units = {subject: each.pearson_V for subject, each in scores.subjects.items()}
    keep_judged(storage, run, judged, units)
    return judged


def judged_of(opened: OpenedRun, scores: HeldOutScores, readings: int) -> Judged:
    """Return scores of a run's test by their names."""
    scored = [np.isfinite(each.pearson_V).sum() for each in scores.subjects.values()]
    return Judged(
        checkpoint=opened.checkpoint.location.rstrip("/").rpartition("/")[2],
        weights=opened.checkpoint.record.weights_checksum,
        name="test_seen_film" if opened.data.split.test_film_is_seen else "test",
        n_trs=sum(each.n_trs for each in scores.subjects.values()),
        n_units=int(max(scored)),
        metrics=scores.summary(),
        subjects={subject: each.summary() for subject, each in scores.subjects.items()},
        readings=readings,
    )


def score_test(
    opened: OpenedRun, report: Callable[[float], None] = lambda done: None
) -> HeldOutScores:
    """Predict the test TRs from a run's best checkpoint, and score them.

    Raises
    ------
    InputError
        If weights or data cannot be read, or nothing can be scored.
    """
    scans = judged_scans(opened)
    sums = ScanSums([scan.subject for scan in scans], len(opened.valid_V))
    for scan, (_, prediction_TV, bold_TV) in pieces_of_test(opened, report):
        pair = torch.from_numpy(prediction_TV), torch.from_numpy(bold_TV)
        sums.add(scans.index(scan), *pair)
    return sums.compute(opened.valid_V)
