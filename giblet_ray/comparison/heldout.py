"""Predictions of several runs, made again on the validation TRs that all of them have.

::

    BOLD TR          ...  40 41 42 43 44 45 46 47 48 49 50 51 ...
    a                     |#####################|
    b                           |#####################|
    common                      |###############|                  where the two are compared
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.comparison.runs import ComparedRun
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import (
    MeanR,
    ScanInfluence,
    ScanRows,
    mean_r,
    scan_influence,
)
from giblet_ray.evaluation.unit_scores import nanmean
from giblet_ray.judge.opened import OpenedRun, open_run, read_bold


@dataclass(frozen=True)
class TrainedRun(OpenedRun):
    """A run whose best checkpoint and data set are at hand.

    Attributes
    ----------
    run : ComparedRun
        As MLflow has it.
    """

    run: ComparedRun

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
            n_trs = self.data.dataset.stimuli[span.stimulus].n_trs
            mask = masks.setdefault(span.stimulus, np.zeros(n_trs, bool))
            mask[span.start : span.stop] = True
        return masks


@dataclass(frozen=True)
class CommonTrs:
    """BOLD TRs by which several runs were chosen.

    Attributes
    ----------
    spans : tuple of Span
        Stretches of BOLD TRs, in ascending order within each stimulus.
    scans : tuple of ScanKey
        Scans of these stimuli that each run was trained for.
    valid_V : ndarray
        Voxels that are valid in each.
    """

    spans: tuple[Span, ...]
    scans: tuple[ScanKey, ...]
    valid_V: NDArray[np.bool_]

    @property
    def n_trs(self) -> int:
        """BOLD TRs of stimuli, counted once for all subjects."""
        return sum(map(len, self.spans))


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
        names = f"runs {first.run.name} and {other.run.name}"
        if other.data.dataset.manifest.checksum != first.data.dataset.manifest.checksum:
            raise InputError(f"{names} were trained on different data sets: no TR is common")
        if not _same_voxels(first.data.selection, other.data.selection):
            raise InputError(f"{names} predict different voxels (data.voxels): none can be paired")
    scans = tuple(scan for scan in first.scans if all(scan in each.scans for each in trained))
    spans: list[Span] = []
    for stimulus in dict.fromkeys(scan.stimulus for scan in scans):
        masks = [each.validation[stimulus] for each in trained if stimulus in each.validation]
        if len(masks) == len(trained):
            stretches = _stretches(np.logical_and.reduce(masks))
            spans += (Span(stimulus, start, stop) for start, stop in stretches)
    scans = tuple(scan for scan in scans if any(scan.stimulus == span.stimulus for span in spans))
    if not spans or not scans:
        names = ", ".join(each.run.name for each in trained)
        raise InputError(f"runs {names}: no validation TR is common to all of them")
    return CommonTrs(tuple(spans), scans, np.logical_and.reduce([each.valid_V for each in trained]))


@dataclass(frozen=True)
class ScoredRun:
    """How well a run predicts the common TRs.

    Attributes
    ----------
    mean : MeanR
        Mean r, and what each film TR adds to it.
    pearson_V : ndarray
        (V,) r of each voxel, mean over scans, then subjects; NaN where not scored.
    """

    mean: MeanR
    pearson_V: NDArray[np.float64]


def score_run(
    trained: TrainedRun, common: CommonTrs, report: Callable[[float], None] = lambda done: None
) -> ScoredRun:
    """Predict the common TRs from a run's best checkpoint, and score every scan.

    Reads and predicts a row group of the data set at a time, once for all scans; what is held is
    one model, and prediction and BOLD of the common TRs of one stimulus.

    Raises
    ------
    InputError
        If weights or data cannot be read, or a scan cannot be scored.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = Encoder.load(trained.checkpoint.location, device=device, packages=trained.packages)
    influences: list[ScanInfluence] = []
    n_done = 0
    for stimulus in dict.fromkeys(span.stimulus for span in common.spans):
        scans = [scan for scan in common.scans if scan.stimulus == stimulus]
        rows: dict[ScanKey, list[Rows]] = {scan: [] for scan in scans}
        spans = [span for span in common.spans if span.stimulus == stimulus]
        for span in _chunks(spans, trained.data.dataset.manifest.row_group_trs):
            for scan, of_scan in _predicted(encoder, trained, span, scans).items():
                rows[scan].append(of_scan)
            n_done += len(span)
            report(n_done / common.n_trs)
        for scan, parts in rows.items():
            tr_T, prediction_TV, bold_TV = map(np.concatenate, zip(*parts, strict=True))
            bold_TV = np.where(common.valid_V, bold_TV, np.nan)  # not scored
            pair = torch.from_numpy(prediction_TV), torch.from_numpy(bold_TV)
            influences.append(scan_influence(ScanRows(scan.subject, stimulus, tr_T, *pair)))
    of_subject: dict[str, list[NDArray[np.float64]]] = {}
    for found in influences:
        of_subject.setdefault(found.subject, []).append(found.pearson_V)
    pearson_V = nanmean([nanmean(scans) for scans in of_subject.values()])
    return ScoredRun(mean_r(influences), pearson_V)


Rows = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""BOLD TRs (T,), prediction and BOLD (T, V) of a scan."""


def _predicted(
    encoder: Encoder, trained: TrainedRun, span: Span, scans: Sequence[ScanKey]
) -> dict[ScanKey, Rows]:
    """Predict a span of BOLD TRs, and read those that each scan has."""
    dataset = trained.data.dataset
    predicted: dict[int, NDArray[np.float32]] = {}
    rows: dict[ScanKey, Rows] = {}
    for scan in scans:
        subject = encoder.subject_index(scan.subject)
        if subject not in predicted:
            predicted[subject] = encoder.predict_bold(dataset, span, subject)
        usable = np.flatnonzero(dataset.usable_trs(scan)[span.start : span.stop])
        bold_TV = read_bold(trained.data, span, scan)[usable]
        rows[scan] = usable + span.start, predicted[subject][usable], bold_TV
    return rows


def _same_voxels(a: Selection, b: Selection) -> bool:
    shared = a.units.keys() & b.units.keys()
    return a.units.keys() == b.units.keys() and all(
        np.array_equal(a.units[subject], b.units[subject]) for subject in shared
    )


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where a mask is true, as [start, stop)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _chunks(spans: Sequence[Span], row_group_trs: int) -> list[Span]:
    """Cut spans at the edges of row groups, which are read whole."""
    chunks = []
    for span in spans:
        first = span.start // row_group_trs + 1
        edges = range(first * row_group_trs, span.stop, row_group_trs)
        bounds = [span.start, *edges, span.stop]
        chunks += [Span(span.stimulus, a, b) for a, b in itertools.pairwise(bounds)]
    return chunks
