"""What each TR adds to a mean r: the one series that intervals and paired tests need.

The mean over units of Pearson's r is a smooth function of means over TRs. How far it moves when one
TR counts a little more is that TR's influence, in which units, however they depend on one another,
are summed already::

    influence_t = sum over v of w_v [ p_tv b_tv - r_v (p_tv^2 + b_tv^2) / 2 ] / T    sum over t = 0

for a scan's prediction p and BOLD b, both z-scored over the scan, and what its units count for in
the mean, w (the influence function of r: Devlin, Gnanadesikan & Kettenring 1975,
doi:10.1093/biomet/62.3.531). Its autocorrelation is that which matters for the mean r; a unit's own
is not.

Shapes: T TRs of a scan, V units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import CONSTANT_PART

Floats = NDArray[np.float64]
_UNITS_AT_A_TIME = 256


@dataclass(frozen=True)
class ScanRows:
    """Held-out TRs of a scan, predicted and measured."""

    subject: str
    stimulus: str
    """Of the scan. A second repeat is another scan of both."""
    tr_T: NDArray[np.integer]
    """(T,) int, the film TR of each row, ascending: scans of one stimulus are aligned by it."""
    prediction_TV: Tensor
    bold_TV: Tensor
    """(T, V), of any floating-point type, on any device."""

    def __post_init__(self) -> None:
        shapes = tuple(self.prediction_TV.shape), tuple(self.bold_TV.shape)
        if shapes[0] != shapes[1] or shapes[0][:1] != self.tr_T.shape or len(shapes[0]) != 2:
            raise InputError(
                f"rows of subject {self.subject}, {self.stimulus}: found prediction and BOLD of "
                f"shapes {shapes[0]} and {shapes[1]} for {len(self.tr_T)} TRs, must be (TRs, units)"
            )
        if len(self.tr_T) < 2 or (np.diff(self.tr_T) <= 0).any():
            raise InputError(
                f"rows of subject {self.subject}, {self.stimulus}: their film TRs must be two or "
                "more, and ascend"
            )


@dataclass(frozen=True)
class ScanInfluence:
    """r of a scan's units, what they add to the mean r of all scans, and what its TRs do.

    Attributes
    ----------
    subject, stimulus, tr_T
        See :class:`ScanRows`.
    pearson_V : ndarray
        (V,) float64; NaN where BOLD is constant or not finite, 0 where the prediction is constant.
    part : float
        Of the mean r: the weighted sum of `pearson_V`.
    influence_T : ndarray
        (T,) float64, in units of r; their sum is 0.
    """

    subject: str
    stimulus: str
    tr_T: NDArray[np.integer]
    pearson_V: Floats
    part: float
    influence_T: Floats


@dataclass(frozen=True)
class MeanR:
    """The mean r over units, scans and subjects, and what each film TR adds to it."""

    value: float
    """Mean over scans, subjects and units, see :func:`unit_weights`."""
    stretches: tuple[Floats, ...]
    """Influence of consecutive film TRs, all scans together, in units of r: the mean moves by a
    TR's number when it counts twice. A stretch ends where a film or its held-out part does."""
    places: tuple[tuple[str, int], ...]
    """Stimulus and first TR of each stretch."""

    @property
    def series(self) -> Floats:
        """All stretches, one after another."""
        return np.concatenate(self.stretches)

    def __sub__(self, other: MeanR) -> MeanR:
        """Return the difference of two means over the same film TRs, with its own influence."""
        same = [len(each) for each in self.stretches] == [len(each) for each in other.stretches]
        if not same or self.places != other.places:
            raise InputError("mean r: two models were scored on different TRs, must be the same")
        differences = (a - b for a, b in zip(self.stretches, other.stretches, strict=True))
        return MeanR(self.value - other.value, tuple(differences), self.places)


@torch.no_grad()
def scan_influence(rows: ScanRows, weight_V: Floats) -> ScanInfluence:
    """Return r and influence of a scan; computed in float64, some units at a time.

    Parameters
    ----------
    rows : ScanRows
        The scan.
    weight_V : ndarray
        (V,) from :func:`unit_weights`.

    Raises
    ------
    InputError
        If a prediction of a unit that has BOLD is not finite.
    """
    n_trs, n_units = rows.bold_TV.shape
    pearson_V = torch.empty(n_units, dtype=torch.float64)
    total_T = torch.zeros(n_trs, dtype=torch.float64, device=rows.bold_TV.device)
    weights = torch.as_tensor(weight_V, device=rows.bold_TV.device)
    for start in range(0, n_units, _UNITS_AT_A_TIME):
        units = slice(start, start + _UNITS_AT_A_TIME)
        b_TV, scored_V = z_scored(rows.bold_TV[:, units])
        p_TV, varies_V = z_scored(rows.prediction_TV[:, units])
        finite_V = rows.prediction_TV[:, units].isfinite().all(dim=0)
        if bool((scored_V & ~finite_V).any()):
            raise InputError(
                f"prediction of subject {rows.subject}, {rows.stimulus}: found NaN or infinity, "
                "must be finite"
            )
        r_V = (p_TV * b_TV).mean(dim=0)
        # What is not scored has 0 in all its terms; a constant prediction has r = 0, and no part.
        terms_TV = p_TV * b_TV - r_V / 2 * (p_TV.square() + b_TV.square())
        total_T += terms_TV @ (weights[units] * varies_V)
        pearson_V[units] = torch.where(scored_V, r_V.clamp(-1, 1), torch.nan).cpu()
    return ScanInfluence(
        *(rows.subject, rows.stimulus, rows.tr_T),
        pearson_V.numpy(),
        part=float(np.nansum(weight_V * pearson_V.numpy())),
        influence_T=(total_T / n_trs).cpu().numpy(),
    )


@torch.no_grad()
def scored_units(bold_TV: Tensor) -> NDArray[np.bool_]:
    """Return the units whose BOLD (T, V) is finite and varies, (V,)."""
    some_units = bold_TV.split(_UNITS_AT_A_TIME, dim=1)
    return torch.cat([z_scored(each_TV)[1] for each_TV in some_units]).cpu().numpy()


def unit_weights(
    subjects: Sequence[str], scored: Sequence[NDArray[np.bool_]], units_are_shared: bool = True
) -> list[Floats]:
    """Return what r of every scan's units counts for in the mean r; all of them together are 1.

    The mean is that of :class:`.scan_sums.ScanSums`: of a unit over a subject's scans, then over
    subjects, then over units; each over what scores it, so that a unit that is masked in one
    subject stays in the others. Units that are a subject's own are averaged before subjects.

    Parameters
    ----------
    subjects, units_are_shared
        As :class:`giblet_ray.evaluation.scan_sums.ScanSums` takes them.
    scored : sequence of ndarray
        (V,) bool of each scan, see :func:`scored_units`.

    Returns
    -------
    list of ndarray
        (V,) float64 of each scan, 0 where it is not scored.

    Raises
    ------
    InputError
        If there is no scan, or no unit of a subject is scored.
    """
    if not subjects:
        raise InputError("mean r: found no scan, one is needed")
    n_scans: dict[str, NDArray] = {}
    for subject, scored_V in zip(subjects, scored, strict=True):
        n_scans[subject] = n_scans.get(subject, 0) + scored_V
    n_units = {subject: np.count_nonzero(n_V) for subject, n_V in n_scans.items()}
    for subject, n in n_units.items():
        if not n:
            raise InputError(f"BOLD of subject {subject}: no unit varies over the TRs of a scan")
    if units_are_shared and len({len(scored_V) for scored_V in scored}) == 1:
        n_subjects_V = np.sum([n_V > 0 for n_V in n_scans.values()], axis=0)
        shares = dict.fromkeys(n_scans, n_subjects_V * np.count_nonzero(n_subjects_V))
    else:
        shares = {subject: np.array(n * len(n_scans)) for subject, n in n_units.items()}
    return [
        scored_V / np.maximum(1, n_scans[subject] * shares[subject])
        for subject, scored_V in zip(subjects, scored, strict=True)
    ]


def weights_of(scans: Sequence[ScanRows], units_are_shared: bool = True) -> list[Floats]:
    """Return the :func:`unit_weights` of scans whose rows are there."""
    scored = [scored_units(scan.bold_TV) for scan in scans]
    return unit_weights([scan.subject for scan in scans], scored, units_are_shared)


def mean_r(scans: Sequence[ScanRows], units_are_shared: bool = True) -> MeanR:
    """Return the mean r, see :func:`unit_weights`, and the influence of every film TR on it."""
    return added_up(map(scan_influence, scans, weights_of(scans, units_are_shared)))


def added_up(scans: Iterable[ScanInfluence]) -> MeanR:
    """Return the mean r that scans are parts of.

    Scans of one stimulus are added up TR by TR: what disturbs a film TR in all subjects counts as
    one event.
    """
    value = 0.0
    films: dict[str, dict[int, float]] = {}
    for scan in scans:
        value += scan.part
        film = films.setdefault(scan.stimulus, {})
        for tr, share in zip(scan.tr_T.tolist(), scan.influence_T.tolist(), strict=True):
            film[tr] = film.get(tr, 0.0) + share
    stretches, places = [], []
    for stimulus, film in films.items():
        for trs in consecutive(film):
            stretches.append(np.array([film[tr] for tr in trs]))
            places.append((stimulus, trs[0]))
    return MeanR(value, tuple(stretches), tuple(places))


def consecutive(trs: Iterable[int]) -> list[list[int]]:
    """Return runs of consecutive TRs, in ascending order."""
    ordered = np.array(sorted(trs))
    cuts = np.flatnonzero(np.diff(ordered) > 1) + 1
    return [run.tolist() for run in np.split(ordered, cuts)]


def z_scored(rows_TV: Tensor) -> tuple[Tensor, Tensor]:
    """Return float64 z-scores over TRs, 0 where a unit is not finite or constant, and which vary.

    Parameters
    ----------
    rows_TV : Tensor
        (T, V).

    Returns
    -------
    z_TV, varies_V : Tensor
        (T, V) float64 with a population SD of 1, and (V,) bool.
    """
    rows_TV = rows_TV.to(torch.float64)
    mean_V = rows_TV.mean(dim=0)
    rows_TV = rows_TV - mean_V
    std_V = rows_TV.square().mean(dim=0).sqrt()
    varies_V = std_V.square() > CONSTANT_PART * (std_V.square() + mean_V.square())
    return torch.where(varies_V, rows_TV / std_V, 0.0), varies_V
