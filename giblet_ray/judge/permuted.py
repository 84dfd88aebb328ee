"""A run's own model with one part of the stimulus in disorder: what it loses, the part gave it.

Shapes: T TRs, V units.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.splits import response_trs
from giblet_ray.errors import InputError
from giblet_ray.evaluation.blocks import cut_blocks
from giblet_ray.evaluation.influence import consecutive
from giblet_ray.evaluation.unit_scores import UnitScores, nanmean
from giblet_ray.judge.evaluation import Partition
from giblet_ray.judge.folds import (
    Folds,
    Report,
    gathered_rows,
    parts_of_run,
    score_rows,
    valid_units,
)
from giblet_ray.judge.opened import OpenedRun

N_ORDERS = 10
"""Orders that the blocks of a part are put in; what is lost is the mean over them."""

_WORDS = (
    "R2 and r that this model loses when blocks of a part's TRs change places; trained without it, "
    "a model might make up for it by the others, and lose less"
)

Shares = dict[tuple[str, ...], NDArray[np.float64]]


def from_permuted(
    folds: Folds, scores: Mapping[str, UnitScores], block_trs: int, seed: int, report: Report
) -> Partition:
    """Return what a run loses when the blocks of one part's TRs change places.

    Parameters
    ----------
    folds : sequence of OpenedRun
        The run.
    scores : mapping of str to UnitScores
        Of each subject, all parts in order.
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
    parts, valid = parts_of_run(folds[0]), valid_units(folds)
    held: list[tuple[OpenedRun, Encoder]] = []  # one model at a time

    def model(opened: OpenedRun) -> Encoder:
        if not held or held[0][0] is not opened:
            held[:] = [(opened, opened.load())]
        return held[0][1]

    lost: dict[str, tuple[Shares, Shares]] = {subject: ({}, {}) for subject in scores}
    for index, (name, part) in enumerate(parts.items()):
        without: dict[str, list[UnitScores]] = {subject: [] for subject in scores}
        for order in range(N_ORDERS):

            def load(opened: OpenedRun, part: str = part, order: int = order) -> Disordered:
                sources = permuted_trs(opened, block_trs, seed + order)
                return Disordered(model(opened), part, sources)

            found = score_rows(gathered_rows(folds, load=load), valid)
            for subject, of_order in found.subjects.items():
                without[subject].append(of_order)
            report((index + (order + 1) / N_ORDERS) / len(parts))
        for subject, orders in without.items():
            r2, pearson = lost[subject]
            r2[(name,)] = scores[subject].r2_V - nanmean([each.r2_V for each in orders])
            mean_V = nanmean([each.pearson_V for each in orders])
            pearson[(name,)] = scores[subject].pearson_V - mean_V
    return Partition(
        "permuted",
        f"{_WORDS} ({N_ORDERS} orders of blocks of {block_trs} TRs or more)",
        {subject: r2 for subject, (r2, _) in lost.items()},
        {subject: pearson for subject, (_, pearson) in lost.items()},
    )


@dataclass(frozen=True)
class Disordered:
    """A model that is shown one part at other TRs than the rest.

    Attributes
    ----------
    encoder : Encoder
        The model.
    part : str
        Which part.
    sources : mapping of str to ndarray
        (TRs of the film,) of each film, the TR that the part is shown of instead.
    """

    encoder: Encoder
    part: str
    sources: Mapping[str, NDArray[np.int64]]

    def subject_index(self, subject: str) -> int | None:
        """See :meth:`Encoder.subject_index`."""
        return self.encoder.subject_index(subject)

    def predict_bold(
        self, dataset: Dataset, span: Span, subject: int | None = None
    ) -> NDArray[np.float32]:
        """See :meth:`Encoder.predict_bold`."""

        def read(seen: Span) -> dict[str, np.ndarray]:
            values = self.encoder.read_stimulus(dataset, seen)
            trs_T = self.sources[seen.stimulus][seen.start : seen.stop]
            cuts = [0, *(np.flatnonzero(np.diff(trs_T) != 1) + 1).tolist(), len(trs_T)]
            pieces = [
                Span(seen.stimulus, int(trs_T[start]), int(trs_T[stop - 1]) + 1)
                for start, stop in itertools.pairwise(cuts)
            ]
            read_part = self.encoder.read_stimulus
            rows = [read_part(dataset, piece, (self.part,))[self.part] for piece in pieces]
            return {**values, self.part: np.concatenate(rows)}

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
        seen: set[int] = set()
        for span in data.split.test:
            if span.stimulus == film:
                first = max(0, span.start - data.lag_trs - data.context_trs)
                seen.update(range(first, max(first, span.stop - data.lag_trs)))
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
        instead_T = np.arange(data.dataset.stimuli[film].n_trs)
        instead_T[sorted(seen)] = np.concatenate([blocks[block] for block in order])
        sources[film] = instead_T
    return sources
