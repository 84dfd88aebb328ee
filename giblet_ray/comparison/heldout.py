"""Predictions of several runs, made again on the validation TRs that all of them have.

::

    BOLD TR          ...  40 41 42 43 44 45 46 47 48 49 50 51 ...
    a                     |#####################|
    b                           |#####################|
    common                      |###############|                  where the two are compared
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import (
    MeanR,
    ScanInfluence,
    added_up,
    scan_influence,
    scored_units,
    unit_weights,
)
from giblet_ray.evaluation.unit_scores import nanmean
from giblet_ray.judge.opened import OpenedRun, check_comparable, open_run, read_bold
from giblet_ray.judge.rows import Rows, joined, predicted_rows
from giblet_ray.spaces.usable import stretches


@dataclass(frozen=True)
class TrainedRun(OpenedRun):
    """A run whose best checkpoint and data set are at hand."""

    run: ComparedRun
    """As MLflow has it."""

    @classmethod
    def open(
        cls,
        run: ComparedRun,
        location: str | None = None,
        open_dataset: Callable[[str], Dataset] = Dataset.open,
        packages: Iterable[str] = (),
    ) -> TrainedRun:
        """Find a run's checkpoint and data set; see :func:`giblet_ray.judge.opened.open_run`."""
        opened = open_run(run.folder, location, open_dataset, packages)
        return cls(**vars(opened), run=run)

    @cached_property
    def validation(self) -> dict[str, NDArray[np.bool_]]:
        """Whether each BOLD TR of a stimulus chose the run's epoch, by stimulus."""
        masks: dict[str, NDArray[np.bool_]] = {}
        for span in self.data.split.val:
            n_trs = self.data.dataset.bold_trs[span.stimulus]
            mask = masks.setdefault(span.stimulus, np.zeros(n_trs, bool))
            mask[span.start : span.stop] = True
        return masks


@dataclass(frozen=True)
class CommonTrs:
    """BOLD TRs by which several runs were chosen."""

    spans: tuple[Span, ...]
    """Stretches of BOLD TRs, in ascending order within each stimulus."""
    scans: tuple[ScanKey, ...]
    """Scans of these stimuli that chose each run's epoch."""
    valid: Mapping[str, NDArray[np.bool_]]
    """Voxels of each subject that are valid in each run."""

    @property
    def n_trs(self) -> int:
        """BOLD TRs of stimuli, counted once for all subjects."""
        return sum(map(len, self.spans))

    def are_all_of(self, trained: TrainedRun) -> bool:
        """Whether a run has no other validation TRs, and no other scans."""
        n_trs = sum(int(mask.sum()) for mask in trained.validation.values())
        return n_trs == self.n_trs and self.scans == trained.scans_in("val")


def common_trs(trained: Sequence[TrainedRun]) -> CommonTrs:
    """Find the validation TRs that several runs have.

    Raises
    ------
    InputError
        If they were trained on different data sets, predict different voxels, or have no validation
        TR in common.
    """
    first = trained[0]
    for other in trained[1:]:
        check_comparable(first, other, f"runs {first.run.name} and {other.run.name}")
    of_each = [each.scans_in("val") for each in trained]
    scans = tuple(scan for scan in of_each[0] if all(scan in of_run for of_run in of_each))
    spans: list[Span] = []
    for stimulus in dict.fromkeys(scan.stimulus for scan in scans):
        masks = [each.validation[stimulus] for each in trained if stimulus in each.validation]
        if len(masks) == len(trained):
            common = stretches(np.logical_and.reduce(masks))
            spans += (Span(stimulus, start, stop) for start, stop in common)
    scans = tuple(scan for scan in scans if any(scan.stimulus == span.stimulus for span in spans))
    if not spans or not scans:
        names = ", ".join(each.run.name for each in trained)
        raise InputError(f"runs {names}: no validation TR is common to all of them")
    valid = {
        scan.subject: np.logical_and.reduce([each.valid(scan.subject) for each in trained])
        for scan in scans
    }
    return CommonTrs(tuple(spans), scans, valid)


@dataclass(frozen=True)
class ScoredRun:
    """How well a run predicts the common TRs."""

    mean: MeanR
    """Mean r, and what each film TR adds to it."""
    pearson_V: NDArray[np.float64]
    """(V,) r of each voxel, mean over scans, then subjects; NaN where not scored. Where the units
    of subjects differ, those of one after another."""


def score_run(
    trained: TrainedRun, common: CommonTrs, report: Callable[[float], None] = lambda done: None
) -> ScoredRun:
    """Predict the common TRs from a run's best checkpoint, and score every scan.

    Reads and predicts a row group of the data set at a time, once for all scans; what is held is
    one model, and prediction and BOLD of the common TRs of one stimulus. BOLD is read once before:
    what a unit counts for depends on where else it is scored.

    Raises
    ------
    InputError
        If weights or data cannot be read, or a scan cannot be scored.
    """
    encoder = trained.load()

    def read(span: Span, scan: ScanKey) -> NDArray:
        return np.where(common.valid[scan.subject], read_bold(trained.data, span, scan), np.nan)

    def scored(scan: ScanKey) -> NDArray[np.bool_]:
        usable_T = trained.data.dataset.usable_trs(scan)
        spans = [span for span in common.spans if span.stimulus == scan.stimulus]
        pieces = [read(span, scan)[usable_T[span.start : span.stop]] for span in spans]
        return scored_units(torch.from_numpy(np.concatenate(pieces)))

    subjects, is_shared = [scan.subject for scan in common.scans], trained.data.units_are_shared
    of_scans = unit_weights(subjects, [scored(scan) for scan in common.scans], is_shared)
    weights = dict(zip(common.scans, of_scans, strict=True))
    influences: list[ScanInfluence] = []
    n_done = 0
    for stimulus in dict.fromkeys(span.stimulus for span in common.spans):
        scans = [scan for scan in common.scans if scan.stimulus == stimulus]
        rows: dict[ScanKey, list[Rows]] = {scan: [] for scan in scans}
        spans = (span for span in common.spans if span.stimulus == stimulus)
        for span in trained.data.dataset.at_row_groups(spans):
            for scan, of_scan in predicted_rows(encoder, trained, span, scans, read).items():
                rows[scan].append(of_scan)
            n_done += len(span)
            report(n_done / common.n_trs)
        influences += (
            scan_influence(joined(scan, parts), weights[scan]) for scan, parts in rows.items()
        )
    of_subject: dict[str, list[NDArray[np.float64]]] = {}
    for found in influences:
        of_subject.setdefault(found.subject, []).append(found.pearson_V)
    each = [nanmean(scans) for scans in of_subject.values()]
    return ScoredRun(added_up(influences), nanmean(each) if is_shared else np.concatenate(each))
