"""What each TR adds to a mean r: the one series that intervals and paired tests need.

The mean over units of Pearson's r is a smooth function of means over TRs. How far it moves when one
TR counts a little more is that TR's influence, in which units, however they depend on one another,
are summed already::

    influence_t = mean over v of [ p_tv b_tv - r_v (p_tv^2 + b_tv^2) / 2 ]      sum over t = 0

for a scan's prediction p and BOLD b, both z-scored over the scan (the influence function of r:
Devlin, Gnanadesikan & Kettenring 1975, doi:10.1093/biomet/62.3.531). Its autocorrelation is that
which matters for the mean r; a unit's own is not.

Shapes: T TRs of a scan, V units.
"""

from __future__ import annotations

from collections import Counter
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
    """Held-out TRs of a scan, predicted and measured.

    Attributes
    ----------
    subject, stimulus : str
        Of the scan. A second repeat is another scan of both.
    tr_T : ndarray
        (T,) int, the film TR of each row, ascending: scans of one stimulus are aligned by it.
    prediction_TV, bold_TV : Tensor
        (T, V), of any floating-point type, on any device.
    """

    subject: str
    stimulus: str
    tr_T: NDArray[np.integer]
    prediction_TV: Tensor
    bold_TV: Tensor

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
    """r of a scan's units, and the influence of its TRs on their mean.

    Attributes
    ----------
    subject, stimulus, tr_T
        See :class:`ScanRows`.
    pearson_V : ndarray
        (V,) float64; NaN where BOLD is constant or not finite, 0 where the prediction is constant.
    influence_T : ndarray
        (T,) float64, their sum is 0.
    """

    subject: str
    stimulus: str
    tr_T: NDArray[np.integer]
    pearson_V: Floats
    influence_T: Floats


@dataclass(frozen=True)
class MeanR:
    """The mean r over units, scans and subjects, and what each film TR adds to it.

    Attributes
    ----------
    value : float
        Mean over the scored units of a scan, over a subject's scans, over subjects.
    stretches : tuple of ndarray
        Influence of consecutive film TRs, all scans together, in units of r: the mean moves by a
        TR's number when it counts twice. A stretch ends where a film or its held-out part does.
    places : tuple of (str, int)
        Stimulus and first TR of each stretch.
    """

    value: float
    stretches: tuple[Floats, ...]
    places: tuple[tuple[str, int], ...]

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
def scan_influence(rows: ScanRows) -> ScanInfluence:
    """Return r and influence of a scan; computed in float64, some units at a time.

    Raises
    ------
    InputError
        If a prediction of a unit that has BOLD is not finite, or no unit's BOLD varies.
    """
    n_trs, n_units = rows.bold_TV.shape
    pearson_V = torch.empty(n_units, dtype=torch.float64)
    total_T = torch.zeros(n_trs, dtype=torch.float64, device=rows.bold_TV.device)
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
        counts_V = (scored_V & varies_V).double()
        # What is not scored has 0 in all its terms; a constant prediction has r = 0.
        total_T += ((p_TV * b_TV - r_V / 2 * (p_TV.square() + b_TV.square())) * counts_V).sum(1)
        pearson_V[units] = torch.where(scored_V, r_V.clamp(-1, 1), torch.nan).cpu()
    n_scored = int(pearson_V.isfinite().sum())
    if not n_scored:
        raise InputError(
            f"BOLD of subject {rows.subject}, {rows.stimulus}: no unit varies over {n_trs} TRs"
        )
    influence_T = (total_T / n_scored).cpu().numpy()
    return ScanInfluence(rows.subject, rows.stimulus, rows.tr_T, pearson_V.numpy(), influence_T)


def mean_r(scans: Sequence[ScanInfluence]) -> MeanR:
    """Return the mean over scans, then subjects, and the influence of every film TR on it.

    Scans of one stimulus are added up TR by TR: what disturbs a film TR in all subjects counts as
    one event.
    """
    if not scans:
        raise InputError("mean r: found no scan, one is needed")
    counts = Counter(scan.subject for scan in scans)
    value = 0.0
    films: dict[str, dict[int, float]] = {}
    for scan in scans:
        weight = 1 / (len(counts) * counts[scan.subject])
        value += weight * float(np.nanmean(scan.pearson_V))
        film = films.setdefault(scan.stimulus, {})
        shares = weight * scan.influence_T / len(scan.tr_T)
        for tr, share in zip(scan.tr_T.tolist(), shares.tolist(), strict=True):
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
