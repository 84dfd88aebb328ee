"""A run's own model with one part of the stimulus in disorder: what it loses, the part gave it.

Shapes: T TRs, V units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.splits import response_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.blocks import cut_blocks
from giblet_ray.evaluation.influence import ScanRows, consecutive
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import UnitScores, nanmean
from giblet_ray.judge.evaluation import Partition
from giblet_ray.judge.folds import Folds, GatheredRows, Report, Rows, valid_units
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.judge.rows import predicted_rows

N_ORDERS = 10
"""Orders that the blocks of a part are put in; what is lost is the mean over them."""

_WORDS = (
    "R2 and r that this model loses when blocks of a part's TRs change places; trained without it, "
    "a model might make up for it by the others, and lose less"
)

Shares = dict[tuple[str, ...], NDArray[np.float64]]


def from_permuted(
    folds: Folds,
    rows: Rows,
    scores: Mapping[str, UnitScores],
    block_trs: int,
    seed: int,
    report: Report,
) -> Partition:
    """Return what a run loses when the blocks of one part's TRs change places.

    Each model is loaded, and each film read, once for all parts and orders: what is held is one of
    either, and 40 bytes per part, order, scan and unit.

    Parameters
    ----------
    folds : sequence of OpenedRun
        The run.
    rows : mapping of ScanKey to ScanRows
        Their test TRs, predicted with all parts in order, and measured.
    scores : mapping of str to UnitScores
        Of each subject, by these rows.
    block_trs : int
        Least length of a block: within it a part keeps its own order and autocorrelation.
    seed : int
        Of the orders.
    report : callable
        Is told the share that is done.

    Raises
    ------
    InputError
        If a film has fewer than two blocks.
    """
    parts, valid, scans = folds[0].checkpoint.record.parts, valid_units(folds), list(rows)
    subjects, n_units = [scan.subject for scan in scans], [len(valid[s.subject]) for s in scans]
    sums = {
        (name, order): ScanSums(subjects, n_units) for name in parts for order in range(N_ORDERS)
    }
    for index, fold in enumerate(folds):
        encoder, dataset = fold.load(), fold.data.dataset
        orders = [permuted_trs(fold, block_trs, seed + order) for order in range(N_ORDERS)]
        films = list(orders[0])
        for done, film in enumerate(films):
            stimulus = dataset.stimuli[film]
            whole = [
                encoder.read_stimulus(dataset, Span(film, 0, seen.n_trs, phase))
                for phase, seen in enumerate(stimulus.phases)
            ]
            spans = dataset.at_row_groups(s for s in fold.data.split.test if s.stimulus == film)
            of_film = [scan for scan in fold.scans_in("test") if scan.stimulus == film]
            for step, (name, order) in enumerate(sums):
                part, order_T = parts[name], orders[order][film]
                shown = Shown(encoder, [_in_order(rows, part, order_T) for rows in whole])
                for span in spans:
                    found = predicted_rows(shown, fold, span, of_film, _no_bold)
                    for scan, (tr_T, prediction_TV, _) in found.items():
                        measured_TV = rows[scan].bold_TV[np.searchsorted(rows[scan].tr_T, tr_T)]
                        prediction_TV = _on_scale(rows[scan], fold, scan, prediction_TV)
                        pair = torch.from_numpy(prediction_TV), measured_TV
                        sums[name, order].add(scans.index(scan), *pair)
                report((index + (done + (step + 1) / len(sums)) / len(films)) / len(folds))
    lost: dict[str, tuple[Shares, Shares]] = {subject: ({}, {}) for subject in scores}
    masks = [valid[subject] for subject in subjects]
    for name in parts:
        without = [sums[name, order].compute(masks).subjects for order in range(N_ORDERS)]
        for subject, (r2, pearson) in lost.items():
            r2_V = nanmean([of_order[subject].r2_V for of_order in without])
            pearson_V = nanmean([of_order[subject].pearson_V for of_order in without])
            r2[(name,)] = scores[subject].r2_V - r2_V
            pearson[(name,)] = scores[subject].pearson_V - pearson_V
    return Partition(
        "permuted",
        f"{_WORDS} ({N_ORDERS} orders of blocks of {block_trs} TRs or more)",
        {subject: r2 for subject, (r2, _) in lost.items()},
        {subject: pearson for subject, (_, pearson) in lost.items()},
    )


def _in_order(
    rows: Mapping[str, NDArray], part: str, order_T: NDArray[np.int64]
) -> Mapping[str, NDArray]:
    """Return a film's rows, those of a part in another order; the same where it lacks the part.

    A phase that is a TR shorter than the first, whose order it is, has the others in that order.
    """
    if part not in rows:
        return rows
    return {**rows, part: rows[part][order_T[order_T < len(rows[part])]]}


def _no_bold(span: Span, scan: ScanKey) -> NDArray[np.float32]:
    """Give no units of a scan: its rows have them."""
    return np.empty((len(span), 0), np.float32)


def _on_scale(
    rows: ScanRows, fold: OpenedRun, scan: ScanKey, prediction_TV: NDArray[np.float32]
) -> NDArray[np.floating]:
    """Return what a fold predicts on the scale of a scan's gathered rows, (T, V)."""
    if not isinstance(rows, GatheredRows):
        return prediction_TV
    # Rows of std_SV are as long as that of the subject with most units.
    std_V = fold.std_SV[fold.scans.index(scan), : len(rows.std_V)]
    return prediction_TV * (std_V / rows.std_V)


@dataclass(frozen=True)
class Shown:
    """A model that is shown other rows of a film than the data set has."""

    encoder: Encoder
    """The model."""
    values: Sequence[Mapping[str, np.ndarray]]
    """(TRs of the film, *shape) of each part, at each phase of the film."""

    def subject_index(self, subject: str) -> int | None:
        """See :meth:`Encoder.subject_index`."""
        return self.encoder.subject_index(subject)

    def predict_bold(
        self, dataset: Dataset, span: Span, subject: int | None = None
    ) -> NDArray[np.float32]:
        """See :meth:`Encoder.predict_bold`."""

        def read(seen: Span) -> dict[str, np.ndarray]:
            whole = self.values[seen.phase]
            return {part: rows[seen.start : seen.stop] for part, rows in whole.items()}

        return self.encoder.predict_bold(dataset, span, subject, read)


def permuted_trs(opened: OpenedRun, block_trs: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """Return the TR that each TR of a test film changes places with; no block stays where it is.

    ::

        film              0 1 2 3|4 5 6 7|8 9 10 11|12 ...      12 and later: no test TR sees them
        instead           8 9 10 11|0 1 2 3|4 5 6 7|12 ...

    Blocks are of the TRs that test TRs see: those a lag and the model's context before them. They
    are shorter in a film that has no two of this length, never shorter than the response.

    Raises
    ------
    InputError
        If a film has fewer than two blocks.
    """
    random = np.random.default_rng(seed)
    data, sources = opened.data, {}
    least_trs = response_trs(data.dataset.manifest.tr_seconds)
    for film in dict.fromkeys(span.stimulus for span in data.split.test):
        n_trs, seen = data.dataset.stimuli[film].n_trs, set[int]()
        for span in data.split.test:
            if span.stimulus == film:
                first = max(0, span.start - data.lag_trs - data.context_trs)
                seen.update(range(first, min(n_trs, span.stop - data.lag_trs)))
        # Two blocks of a short film at least, if the response allows.
        length = max(least_trs, min(block_trs, len(seen) // 2))
        blocks = []
        for stretch in consecutive(seen) if seen else []:
            block_T = cut_blocks(len(stretch), length)
            blocks += [np.array(stretch)[block_T == block] for block in range(block_T[-1] + 1)]
        if len(blocks) < 2:
            raise InputError(
                f"--partition permuted: the test TRs of {film} see {len(seen)} TRs of it, no two "
                f"blocks of {length}; hold out longer parts (data.split)"
            )
        order = np.arange(len(blocks))
        while (order == np.arange(len(blocks))).any():
            order = random.permutation(len(blocks))
        instead_T = np.arange(n_trs)
        instead_T[sorted(seen)] = np.concatenate([blocks[block] for block in order])
        sources[film] = instead_T
    return sources
