"""How well any model could predict: ceilings of r, from repeats or from subjects of one film.

A ceiling is the r that the true response would reach, given the noise of the scan that judges it::

    BOLD of one scan = response to the film + noise         ceiling = SD(response) / SD(BOLD)

A *shared* ceiling bounds what subjects have in common. It says nothing of what is a subject's own,
and is no divisor for a model with a head of the subject's own.

Shapes: R repeats, S subjects, T TRs, V units.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import z_scored
from giblet_ray.evaluation.null import draw_shifts, shift_null

WITHIN_NOISE = 0.05
"""A ceiling whose repeats agree no better than by chance, at this p, is no divisor."""
N_PERMUTATIONS = 199
MAX_SPLITS = 50
_UNITS_AT_A_TIME = 256

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ceiling:
    """The highest r that a unit's scan allows."""

    ceiling_V: Floats
    """(V,) float64, as r, 0 to 1; 0 where repeats agree by chance or less; NaN where BOLD is
    constant or not finite."""
    p_V: Floats
    """(V,) one-sided p that repeats agree no better than by chance."""
    kind: str
    """How it was found, in words."""

    def normalised(self, pearson_V: NDArray) -> Floats:
        """Return r / ceiling, NaN where the ceiling is within noise: there it says nothing."""
        beyond_V = (self.p_V <= WITHIN_NOISE) & (self.ceiling_V > 0)
        divisor_V = np.where(beyond_V, self.ceiling_V, 1.0)
        return np.where(beyond_V, np.asarray(pearson_V, np.float64) / divisor_V, math.nan)


@dataclass(frozen=True)
class SharedCeiling:
    """Bounds of the r that what subjects share allows, of each subject's scan."""

    lower_SV: Floats
    upper_SV: Floats
    """(S, V) float64: r with the mean of the other subjects, and of all. NaN where the subject's
    BOLD, or that of all others, is constant or not finite."""


def explainable_ceiling(films_RTV: Sequence[Tensor], least_trs: int, seed: int = 0) -> Ceiling:
    """Return the ceiling from explainable variance, its bias corrected.

    ::

        EV = 1 - mean over repeats, TRs of (z - mean over repeats of z)^2
        EV corrected = EV - (1 - EV) / (R - 1)              ceiling = sqrt(EV corrected)

    for repeats z-scored over the TRs of each scan, as r is of one (Schoppe et al. 2016,
    doi:10.3389/fncom.2016.00010; as in voxelwise_tutorials.utils.explainable_variance). The
    corrected EV is the mean correlation of two repeats; of several films, weighted by their TRs.

    Parameters
    ----------
    films_RTV : sequence of Tensor
        (R, T, V) of each film: BOLD of the same film TRs, R at least 2, as many of each. A unit
        that is constant or not finite in a scan is left out of that film.
    least_trs : int
        Shortest shift in the null that decides what is within noise, see :mod:`.null`.
    seed : int
        Of that null.

    Raises
    ------
    InputError
        For fewer than two repeats, or too few TRs to be shifted.

    Notes
    -----
    Assumes that the response is the same in each repeat (no adaptation, no memory of the film, the
    same attention), and that noise is independent between repeats and alike in all. Where the
    response changes, the ceiling is too low. Drift that repeats share makes it too high. The EV has
    no bias; its root has, where it is small beside its error: of units with a ceiling of 0.30, two
    repeats of 600 TRs give 0.26 in the mean, and four 0.28.
    """
    n = _n_repeats(films_RTV)

    def corrected(z_RTV: Tensor) -> Tensor:
        # Of z-scores, what the mean of the repeats varies by is EV.
        explained_V = z_RTV.mean(dim=0).square().mean(dim=0)
        return explained_V - (1 - explained_V) / (n - 1)

    kind = f"explainable variance of {n} repeats, bias corrected"
    return _ceiling(films_RTV, corrected, kind, least_trs, seed)


def split_half_ceiling(films_RTV: Sequence[Tensor], least_trs: int, seed: int = 0) -> Ceiling:
    """Return the ceiling from the correlation of halves of the repeats, with Spearman-Brown.

    ::

        reliability of one repeat = k r / (1 + (k - 1) r),  k = 1 / (repeats in a half)
        ceiling = sqrt(reliability)

    for r the correlation of the means of two halves, averaged over all ways of halving (a random
    50 where there are more); of an odd number one is left out at a time (Spearman 1910, Brown 1910;
    Lage-Castellanos et al. 2019, doi:10.1371/journal.pcbi.1006397).

    Parameters
    ----------
    films_RTV, least_trs, seed
        See :func:`explainable_ceiling`.

    Raises
    ------
    InputError
        For fewer than two repeats, or too few TRs to be shifted.

    Notes
    -----
    Assumes what :func:`explainable_ceiling` does. With two repeats the two are equal; with more
    they differ where noise is not alike in all.
    """
    n = _n_repeats(films_RTV)
    half = n // 2
    splits = [
        (one, other)
        for one in itertools.combinations(range(n), half)
        for other in itertools.combinations([r for r in range(n) if r not in one], half)
        if one < other
    ]
    if len(splits) > MAX_SPLITS:
        chosen = np.random.default_rng(seed).permutation(len(splits))[:MAX_SPLITS]
        splits = [splits[index] for index in chosen]

    def reliability(z_RTV: Tensor) -> Tensor:
        r_V = torch.zeros(z_RTV.shape[2], dtype=torch.float64, device=z_RTV.device)
        for halves in splits:
            (a_TV, _), (b_TV, _) = (z_scored(z_RTV[list(rows)].mean(dim=0)) for rows in halves)
            r_V += (a_TV * b_TV).mean(dim=0) / len(splits)
        k = 1 / half
        return k * r_V / (1 + (k - 1) * r_V)

    kind = f"split halves of {n} repeats, Spearman-Brown"
    return _ceiling(films_RTV, reliability, kind, least_trs, seed)


def shared_ceiling(subjects_STV: Tensor) -> SharedCeiling:
    """Return inter-subject correlations: with the others' mean, and with the mean of all.

    ::

        lower_s = r(b_s, mean of b over the others)      upper_s = r(b_s, mean of b over all)

    for BOLD b z-scored over TRs. The others' mean has noise of its own, so that the true shared
    response correlates better with b_s; the mean of all has b_s itself in it, so that it fits
    better than any that was not made from b_s (Nili et al. 2014, doi:10.1371/journal.pcbi.1003553;
    Hasson et al. 2004).

    Parameters
    ----------
    subjects_STV : Tensor
        (S, T, V) BOLD of the same film TRs, S at least 2, in one space. A unit that is constant or
        not finite in a subject is left out of the others' mean.

    Raises
    ------
    InputError
        For fewer than two subjects.

    Notes
    -----
    Assumes that units agree over subjects, and that noise is independent between them. The bounds
    hold for models that predict one response for all: a subject's own response may lie above both.
    """
    if subjects_STV.ndim != 3 or len(subjects_STV) < 2:
        raise InputError(
            f"shared ceiling: found BOLD of shape {tuple(subjects_STV.shape)}, must be of two "
            "subjects or more, (subjects, TRs, units)"
        )
    lower_SV, upper_SV = np.empty((2, len(subjects_STV), subjects_STV.shape[2]))
    for units, z_STV, scored_SV in _z_scored_each(subjects_STV):
        total_TV = z_STV.sum(dim=0)
        for subject, (z_TV, scored_V) in enumerate(zip(z_STV, scored_SV, strict=True)):
            for bound_SV, rows_TV in ((lower_SV, total_TV - z_TV), (upper_SV, total_TV)):
                mean_TV, varies_V = z_scored(rows_TV)
                r_V = torch.where(scored_V & varies_V, (z_TV * mean_TV).mean(dim=0), torch.nan)
                bound_SV[subject, units] = r_V.cpu().numpy()
    return SharedCeiling(lower_SV, upper_SV)


def _n_repeats(films_RTV: Sequence[Tensor]) -> int:
    shapes = [tuple(film_RTV.shape) for film_RTV in films_RTV]
    alike = len({(len(shape), shape[0], shape[-1]) for shape in shapes}) == 1
    if not alike or len(shapes[0]) != 3 or shapes[0][0] < 2:
        raise InputError(
            f"noise ceiling: found BOLD of shapes {shapes}, must be of two repeats or more, "
            "(repeats, TRs, units), as many of each film"
        )
    return shapes[0][0]


def _z_scored_each(bold_NTV: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield some units at a time: which, each scan's z-scores (N, T, U), and which vary (N, U)."""
    for start in range(0, bold_NTV.shape[2], _UNITS_AT_A_TIME):
        units = slice(start, start + _UNITS_AT_A_TIME)
        z_NTU, varies_NU = zip(*map(z_scored, bold_NTV[:, :, units]), strict=True)
        yield units, torch.stack(z_NTU), torch.stack(varies_NU)


def _ceiling(
    films_RTV: Sequence[Tensor],
    reliability: Callable[[Tensor], Tensor],
    kind: str,
    least_trs: int,
    seed: int,
) -> Ceiling:
    """Return a ceiling with p: does the mean correlation of two repeats exceed shifted ones?"""
    n_repeats, _, n_units = films_RTV[0].shape
    n_trs = sum(film_RTV.shape[1] for film_RTV in films_RTV)
    pairs = list(itertools.combinations(range(n_repeats), 2))
    shifts = draw_shifts(pairs, [n_trs] * len(pairs), least_trs, N_PERMUTATIONS, seed)
    ceiling_V, p_V = np.empty((2, n_units))
    for films in zip(*map(_z_scored_each, films_RTV), strict=True):
        units = films[0][0]
        z_RTV = torch.cat([z_RTV * varies_RV.all(dim=0) for _, z_RTV, varies_RV in films], dim=1)
        # The share of TRs at which a unit is scored: elsewhere it is 0 in all repeats.
        share_V = z_RTV[0].square().mean(dim=0)
        z_RTV /= torch.where(share_V > 0, share_V, 1).sqrt()
        one, other = ([z_RTV[pair[end]] for pair in pairs] for end in (0, 1))
        scored_V = share_V.cpu().numpy() > 0
        of_units = np.sqrt(np.clip(reliability(z_RTV).cpu().numpy(), 0, 1))
        ceiling_V[units] = np.where(scored_V, of_units, math.nan)
        p_V[units] = np.where(scored_V, shift_null(one, other, shifts).p_values(), math.nan)
    return Ceiling(ceiling_V, p_V, kind)
