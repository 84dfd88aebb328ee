"""The TRs of a run's set, predicted by its chosen checkpoint and measured, scan by scan.

Shapes: T TRs of a scan, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.splits import SetName
from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.judge.opened import OpenedRun

Rows = tuple[NDArray[np.int64], NDArray[np.float32], NDArray]
"""BOLD TRs of the film (T,), prediction and BOLD (T, V) of a scan."""
ReadBold = Callable[[Span, ScanKey], NDArray]


class Predicts(Protocol):
    """What predicts BOLD of a data set: an Encoder, or one that is shown other things."""

    def subject_index(self, subject: str) -> int | None:
        """See ``Encoder.subject_index``."""

    def predict_bold(
        self, dataset: Dataset, span: Span, subject: int | None = None
    ) -> NDArray[np.float32]:
        """See ``Encoder.predict_bold``."""


def predicted_rows(
    encoder: Predicts, opened: OpenedRun, span: Span, scans: Sequence[ScanKey], read: ReadBold
) -> dict[ScanKey, Rows]:
    """Predict a span of BOLD TRs, once with each head and phase, and read what each scan has.

    Parameters
    ----------
    encoder, opened : Predicts, OpenedRun
        The model, and what it was trained on.
    span : Span
        Which TRs.
    scans : sequence of ScanKey
        Scans of the span's stimulus.
    read : callable
        Gives the BOLD of a scan's span, (TRs, V).

    Raises
    ------
    InputError
        If data cannot be read.
    """
    dataset = opened.data.dataset
    predicted: dict[tuple[int | None, int], NDArray[np.float32]] = {}
    rows: dict[ScanKey, Rows] = {}
    for scan in scans:
        seen = replace(span, phase=dataset.scans[scan].phase)
        head = encoder.subject_index(scan.subject), seen.phase
        if head not in predicted:
            predicted[head] = encoder.predict_bold(dataset, seen, head[0])
        usable = np.flatnonzero(dataset.usable_trs(scan)[span.start : span.stop])
        prediction_TV = predicted[head][usable]
        prediction_TV[:, ~opened.valid(scan.subject)] = np.nan
        rows[scan] = usable + span.start, prediction_TV, read(span, scan)[usable]
    return rows


def joined(scan: ScanKey, pieces: Sequence[Rows]) -> ScanRows:
    """Return the pieces of a scan as one."""
    tr_T, prediction_TV, bold_TV = map(np.concatenate, zip(*pieces, strict=True))
    pair = torch.from_numpy(prediction_TV), torch.from_numpy(bold_TV)
    return ScanRows(scan.subject, scan.stimulus, tr_T, *pair)


def pieces_of(
    opened: OpenedRun,
    name: SetName,
    report: Callable[[float], None],
    encoder: Predicts | None = None,
) -> Iterator[tuple[ScanKey, Rows]]:
    """Predict a set's TRs of all scans, a row group at a time; BOLD is z-scored, float32.

    What is held is one model (the run's own, or another that is given) and one row group of one
    stimulus. Units that took no part in a subject have NaN predicted and 0 measured in its scans.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    encoder, scans = encoder or opened.load(), opened.scans_in(name)
    spans = opened.data.dataset.at_row_groups(opened.data.split.spans(name))

    def z_scored(span: Span, scan: ScanKey) -> NDArray[np.float32]:
        return opened.z_scored(span, scan).astype(np.float32)

    for done, span in enumerate(spans, 1):
        of_film = [scan for scan in scans if scan.stimulus == span.stimulus]
        yield from predicted_rows(encoder, opened, span, of_film, z_scored).items()
        report(done / len(spans))


def all_rows(
    opened: OpenedRun,
    report: Callable[[float], None] = lambda done: None,
    encoder: Predicts | None = None,
) -> dict[ScanKey, ScanRows]:
    """Return the test TRs of each scan, in memory: 8 bytes per TR and unit.

    Raises
    ------
    InputError
        If weights or data cannot be read.
    """
    pieces: dict[ScanKey, list[Rows]] = {scan: [] for scan in opened.scans_in("test")}
    for scan, rows in pieces_of(opened, "test", report, encoder):
        pieces[scan].append(rows)
    return {scan: joined(scan, of_scan) for scan, of_scan in pieces.items()}
