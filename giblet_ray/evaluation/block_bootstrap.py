"""How far a mean r would move with other TRs of such films, and with other subjects of such a kind.

Blocks of film TRs are drawn with replacement, within each film, for all scans of it alike, and r is
computed again from the sums over the blocks that were drawn::

    film            0        1        2        3        4
              |--------|--------|--------|--------|--------|
    drawn         1        4        4        0        3            block 4 counts twice, 2 never

Units are never drawn: they depend on one another. From 16 subjects on subjects are drawn as well,
first; below that they are those they are, since an interval from so few that are drawn is too
narrow (of 4 it covers 0.81 at most).

Shapes: T TRs of a scan, V units, R resamples, B blocks of a film, C scans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.evaluation.blocks import block_length, cut_blocks
from giblet_ray.evaluation.influence import (
    MeanR,
    ScanRows,
    added_up,
    scan_influence,
    weights_of,
    z_scored,
)
from giblet_ray.evaluation.long_run import n_cosines, slow_cosines, student_quantile

COVERAGE = 0.95
TAIL = (1 - COVERAGE) / 2
N_RESAMPLES = 1000
SUBJECTS_ARE_DRAWN_FROM = 16
_BYTES_AT_A_TIME = 128 * 2**20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeanInterval:
    """A mean r with its bootstrap interval of :data:`COVERAGE`."""

    value: float
    low: float
    high: float
    """The mean over scans, subjects and units, and its interval."""
    block_trs: int
    """Least length of a block, as it was measured."""
    n_blocks: int
    n_trs: int
    n_subjects: int
    """Of film TRs, counted once for all subjects."""
    subjects_are_drawn: bool
    """The interval speaks of other subjects; otherwise of these."""

    def __str__(self) -> str:
        whose = "subjects, and within them" if self.subjects_are_drawn else "these subjects;"
        return (
            f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}], {COVERAGE:.0%} over {whose} "
            f"{self.n_blocks} blocks of {self.block_trs} TRs or more"
        )


def bootstrap_mean_r(
    scans: Sequence[ScanRows],
    least_trs: int,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    report: Callable[[float], None] = lambda done: None,
    units_are_shared: bool = True,
) -> MeanInterval:
    """Return the mean r over scans, subjects and units, with its interval.

    ::

        interval = r + k * (2.5 % and 97.5 % of r* - mean of r*)
        k        = t(N) * se / (1.96 * SD of r*)

    r* is computed from the resampled rows of every unit, and gives the interval its shape. Its
    percentiles alone are too narrow, since neighbouring blocks are drawn as if independent; the
    width is Student's, from the error of the mean and its N degrees of freedom that
    :mod:`.long_run` finds. Where subjects are drawn, with what their units weigh in the mean, the
    width is that of S subjects: k = t(S - 1) * sqrt(S / (S - 1)) / 1.96.

    Parameters
    ----------
    scans : sequence of ScanRows
        Held-out TRs of all scans of all subjects.
    least_trs : int
        Blocks are never shorter: the haemodynamic response. They are longer where the measured
        autocorrelation of the mean's influence is (see :func:`.blocks.block_length`).
    n_resamples : int
        R.
    seed : int
        Of the draws.
    report : callable, optional
        Is told the share that is done.
    units_are_shared : bool
        Whether a unit is the same one in all subjects; see :func:`.influence.unit_weights`.

    Raises
    ------
    InputError
        If there is no scan, a prediction is not finite, or a film has fewer than two blocks.

    Notes
    -----
    Assumes that TRs further apart than a block are independent, and that blocks are alike. Costs
    5 R B V products per scan and 20 R V operations; beyond the rows, memory is bounded by the
    chunks of units.
    """
    weights = weights_of(scans, units_are_shared)
    mean = added_up(map(scan_influence, scans, weights))
    films = _Films(mean, least_trs)
    random = np.random.default_rng(seed)
    counts = [random.multinomial(n, np.full(n, 1 / n), n_resamples) for n in films.n_blocks]
    drawn_CR = np.empty((len(scans), n_resamples))
    for index, scan in enumerate(scans):
        film = films.names.index(scan.stimulus)
        block_T = films.block_of[film][scan.tr_T]
        drawn_CR[index] = _resampled(scan, weights[index], block_T, counts[film])
        report((index + 1) / len(scans))
    subjects = list(dict.fromkeys(scan.subject for scan in scans))
    n, are_drawn = len(subjects), len(subjects) >= SUBJECTS_ARE_DRAWN_FROM
    normal = student_quantile(1 - TAIL, 10**6)
    if are_drawn:
        times_SR = random.multinomial(n, np.full(n, 1 / n), n_resamples).T
        times_CR = times_SR[[subjects.index(scan.subject) for scan in scans]]
        weight_C = np.array([weight_V.sum() for weight_V in weights])
        drawn_R = (times_CR * drawn_CR).sum(axis=0) / (weight_C @ times_CR)
        stretch = student_quantile(1 - TAIL, n - 1) * np.sqrt(n / (n - 1)) / normal
    else:
        drawn_R = drawn_CR.sum(axis=0)
        cosines_N = slow_cosines(mean.series, n_cosines(mean.stretches, least_trs))
        error = np.sqrt(np.mean(cosines_N**2))
        stretch = (
            student_quantile(1 - TAIL, len(cosines_N))
            * error
            / (normal * max(drawn_R.std(), 1e-12))
        )
    low, high = mean.value + stretch * (
        np.percentile(drawn_R, [100 * TAIL, 100 - 100 * TAIL]) - drawn_R.mean()
    )
    return MeanInterval(
        mean.value,
        float(low),
        float(high),
        films.block_trs,
        sum(films.n_blocks),
        len(mean.series),
        n,
        are_drawn,
    )


class _Films:
    """Blocks of every film."""

    def __init__(self, mean: MeanR, least_trs: int) -> None:
        self.block_trs = block_length(mean.stretches, least_trs)
        self.names = list(dict.fromkeys(stimulus for stimulus, _ in mean.places))
        self.block_of: list[NDArray[np.int64]] = []  # by film TR; -1 where it is not held out
        self.n_blocks: list[int] = []
        for name in self.names:
            own = [
                (first, stretch)
                for (stimulus, first), stretch in zip(mean.places, mean.stretches, strict=True)
                if stimulus == name
            ]
            length = self.block_trs
            if len(own) == 1:  # two blocks at least, if the response allows
                length = max(least_trs, min(length, len(own[0][1]) // 2))
            block_T = np.full(max(first + len(stretch) for first, stretch in own), -1)
            n_blocks = 0
            for first, stretch in own:
                place = slice(first, first + len(stretch))
                block_T[place] = n_blocks + cut_blocks(len(stretch), length)
                n_blocks = int(block_T[place][-1]) + 1
            if n_blocks < 2:
                raise InputError(
                    f"{name}: its {len(own[0][1])} held-out TRs are no two blocks of {least_trs}, "
                    "which a bootstrap needs; hold out longer parts (data.split)"
                )
            self.block_of.append(block_T)
            self.n_blocks.append(n_blocks)


@torch.no_grad()
def _resampled(
    scan: ScanRows, weight_V: Floats, block_T: NDArray[np.int64], counts_RB: NDArray
) -> Floats:
    """Return the weighted sum of r over a scan's units in each resample, (R,)."""
    device = scan.bold_TV.device
    kind = torch.promote_types(scan.bold_TV.dtype, scan.prediction_TV.dtype)
    kind = kind if kind == torch.float64 else torch.float32
    n_resamples, n_blocks = counts_RB.shape
    n_units = scan.bold_TV.shape[1]
    blocks = torch.as_tensor(block_T, device=device)
    counts = torch.as_tensor(counts_RB, dtype=kind, device=device)
    n_B = torch.bincount(blocks, minlength=n_blocks).to(kind)
    n_R1 = (counts @ n_B).clamp(min=1)[:, None]
    total_R = torch.zeros(n_resamples, dtype=torch.float64, device=device)
    weights = torch.as_tensor(weight_V, dtype=kind, device=device)
    step = max(1, _BYTES_AT_A_TIME // (8 * (n_resamples * 8 + len(block_T) * 4)))
    for start in range(0, n_units, step):
        units = slice(start, start + step)
        # z-scored over the scan, so that sums of squares lose nothing in float32.
        p_TV, _ = z_scored(scan.prediction_TV[:, units])
        b_TV, scored_V = z_scored(scan.bold_TV[:, units])
        p_TV, b_TV = p_TV[:, scored_V].to(kind), b_TV[:, scored_V].to(kind)
        sums = []
        for terms_TV in (p_TV, b_TV, p_TV * p_TV, b_TV * b_TV, p_TV * b_TV):
            sums_BV = torch.zeros(n_blocks, terms_TV.shape[1], dtype=kind, device=device)
            sums.append(counts @ sums_BV.index_add_(0, blocks, terms_TV))
        p, b, pp, bb, pb = (each.div_(n_R1) for each in sums)
        scale = (pp - p * p).clamp_(min=0) * (bb - b * b).clamp_(min=0)
        r_RV = torch.where(scale > 1e-12, (pb - p * b) * scale.clamp(min=1e-12).rsqrt(), 0.0)
        total_R += r_RV.mul_(weights[units][scored_V]).sum(dim=1, dtype=torch.float64)
    return total_R.cpu().numpy()
