"""The test TRs of a run, predicted by its chosen checkpoint and measured, scan by scan.

Shapes: T test TRs of a scan, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.judge.opened import OpenedRun

Piece = tuple[int, NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


def judged_scans(opened: OpenedRun) -> list[ScanKey]:
    """Return the scans that have test TRs, in the order of the record."""
    films = {span.stimulus for span in opened.data.split.test}
    has = opened.data.split.has
    return [s for s in opened.scans if s.stimulus in films and has("test", s.repeat)]


def pieces_of_test(opened: OpenedRun, report: Callable[[float], None]) -> Iterator[Piece]:
    """Predict the test TRs of all scans, a row group at a time.

    What is held is one model and one row group of one subject.

    Yields
    ------
    scan : int
        Index in :func:`judged_scans`.
    tr_T : ndarray
        (T,) BOLD TRs of the film that the scan has, ascending from piece to piece.
    prediction_TV, bold_TV : ndarray
        (T, V) float32, z-scored; NaN and 0 where a unit took no part.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = Encoder.load(opened.checkpoint.location, device=device, packages=opened.packages)
    dataset, scans, spans = opened.data.dataset, judged_scans(opened), opened.spans("test")
    for done, span in enumerate(spans, 1):
        predicted: dict[int, NDArray[np.float32]] = {}
        for index, scan in enumerate(scans):
            if scan.stimulus != span.stimulus:
                continue
            subject = encoder.subject_index(scan.subject)
            if subject not in predicted:
                predicted[subject] = encoder.predict_bold(dataset, span, subject)
            usable_T = dataset.usable_trs(scan)[span.start : span.stop]
            bold_TV = opened.z_scored(span, scan)[usable_T].astype(np.float32)
            tr_T = np.flatnonzero(usable_T) + span.start
            yield index, tr_T, predicted[subject][usable_T], bold_TV
        report(done / len(spans))


def all_rows(
    opened: OpenedRun, report: Callable[[float], None] = lambda done: None
) -> list[ScanRows]:
    """Return all test TRs in memory: 8 bytes per TR and unit of each scan.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    scans = judged_scans(opened)
    pieces: list[list[Piece]] = [[] for _ in scans]
    for piece in pieces_of_test(opened, report):
        pieces[piece[0]].append(piece)
    rows = []
    for scan, of_scan in zip(scans, pieces, strict=True):
        _, trs, predictions, bold = zip(*of_scan, strict=True)
        arrays = (np.concatenate(each) for each in (predictions, bold))
        rows.append(ScanRows(scan.subject, scan.stimulus, np.concatenate(trs),
                             *map(torch.from_numpy, arrays)))  # fmt: skip
    return rows
