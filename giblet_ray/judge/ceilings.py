"""Ceilings of the test TRs: from repeats, from subjects who saw the same films, or from a file.

Shapes: R repeats, S subjects, T TRs, V units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.evaluation.ceiling import (
    Ceiling,
    Floats,
    explainable_ceiling,
    shared_ceiling,
    split_half_ceiling,
)
from giblet_ray.evaluation.influence import ScanRows
from giblet_ray.evaluation.unit_scores import nanmean

_OF_REPEATS = {"repeats": explainable_ceiling, "split_half": split_half_ceiling}

Rows = Mapping[ScanKey, ScanRows]


@dataclass(frozen=True)
class Ceilings:
    """Ceilings of each subject's units."""

    words: str = ""
    """How they were found; empty without one."""
    own: dict[str, Ceiling] = field(default_factory=dict)
    """Of the subject's own scans: what its r may be divided by."""
    shared: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    """(V,) lower and upper bounds of what subjects share, as r; no divisor."""


def plan_ceilings(
    wanted: str, scans: Sequence[ScanKey], n_units: int | None, least_trs: int, seed: int
) -> Callable[[Rows], Ceilings]:
    """Return what finds the ceilings that are wanted, once the test TRs have been read.

    Parameters
    ----------
    wanted : str
        none; repeats or split_half, from scans of the same test TRs; subjects, from the scans of
        others of the same test TRs; or an .npy file, (V,), for all subjects.
    scans : sequence of ScanKey
        All that have test TRs.
    n_units : int or None
        V; None where units of subjects differ.
    least_trs, seed : int
        Of the null that says which ceilings are within noise.

    Raises
    ------
    InputError
        If there are no repeats, a film was seen by one subject alone, the file is of other units,
        or units of subjects differ where they have to be the same.
    """
    if wanted == "none":
        return lambda rows: Ceilings()
    if n_units is None and wanted not in _OF_REPEATS:
        raise InputError(
            f"--ceiling {wanted}: is of units that all subjects share, and these have units of "
            f"their own; {' or '.join(_OF_REPEATS)} is accepted"
        )
    if wanted == "subjects":
        films = first_scans(scans)
        for film, seen in films.items():
            if len(seen) < 2:
                raise InputError(
                    f"--ceiling subjects: film {film} was seen by subject {next(iter(seen))} alone,"
                    " where a shared ceiling needs two or more; give repeats, an .npy file or none"
                )
        return lambda rows: _of_subjects(rows, films)
    if wanted.endswith(".npy") and n_units is not None:
        known = _known(wanted, n_units)
        subjects = dict.fromkeys(scan.subject for scan in scans)
        return lambda rows: Ceilings(known.kind, dict.fromkeys(subjects, known))
    repeats = _repeats(wanted, scans)
    return lambda rows: _of_repeats(rows, wanted, repeats, least_trs, seed)


def first_scans(scans: Iterable[ScanKey]) -> dict[str, dict[str, ScanKey]]:
    """Return the first scan of each subject who saw a film, by film."""
    films: dict[str, dict[str, ScanKey]] = {}
    for scan in sorted(scans, key=lambda scan: scan.repeat):
        films.setdefault(scan.stimulus, {}).setdefault(scan.subject, scan)
    return films


def common_trs(scans: Sequence[ScanRows]) -> list[np.ndarray]:
    """Return the rows of each scan of a film that are of the TRs which all of them have."""
    common = reduce(np.intersect1d, (each.tr_T for each in scans))
    return [np.searchsorted(each.tr_T, common) for each in scans]


def _stacked(scans: Sequence[ScanRows]) -> Tensor:
    """Return the BOLD (scans, T, V) of the TRs that all have."""
    pairs = zip(scans, common_trs(scans), strict=True)
    return torch.stack([each.bold_TV[rows] for each, rows in pairs])


def _repeats(wanted: str, scans: Sequence[ScanKey]) -> dict[str, list[list[ScanKey]]]:
    """Return the repeats of each film that a subject saw, as many of each."""
    found: dict[str, list[list[ScanKey]]] = {}
    for subject in dict.fromkeys(scan.subject for scan in scans):
        mine = [scan for scan in scans if scan.subject == subject]
        films = dict.fromkeys(scan.stimulus for scan in mine)
        of_films = [[scan for scan in mine if scan.stimulus == film] for film in films]
        n = min(map(len, of_films))
        if n < 2:
            raise InputError(
                f"--ceiling {wanted}: subject {subject} saw the test TRs of a film once, where two "
                "or more repeats are needed; give an .npy file, subjects or none"
            )
        found[subject] = [of_film[:n] for of_film in of_films]
    return found


def _of_repeats(
    rows: Rows, wanted: str, repeats: dict[str, list[list[ScanKey]]], least_trs: int, seed: int
) -> Ceilings:
    own = {}
    for subject, of_films in repeats.items():
        films = [_stacked([rows[scan] for scan in of_film]) for of_film in of_films]
        own[subject] = _OF_REPEATS[wanted](films, least_trs, seed)
    return Ceilings(next(iter(own.values())).kind, own)


def _of_subjects(rows: Rows, films: Mapping[str, Mapping[str, ScanKey]]) -> Ceilings:
    low: dict[str, list[Floats]] = {}
    high: dict[str, list[Floats]] = {}
    for seen in films.values():
        bounds = shared_ceiling(_stacked([rows[scan] for scan in seen.values()]))
        for subject, low_V, high_V in zip(seen, bounds.lower_SV, bounds.upper_SV, strict=True):
            low.setdefault(subject, []).append(low_V)
            high.setdefault(subject, []).append(high_V)
    shared = {subject: (nanmean(low[subject]), nanmean(high[subject])) for subject in low}
    return Ceilings(f"correlation between {len(shared)} subjects", shared=shared)


def _known(path: str, n_units: int) -> Ceiling:
    try:
        ceiling_V = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--ceiling {path}: not a readable .npy file: {error}") from error
    if ceiling_V.shape != (n_units,):
        raise InputError(
            f"--ceiling {path}: found shape {ceiling_V.shape}; the run predicts {n_units} units, "
            f"so ({n_units},) is accepted"
        )
    if not ((ceiling_V >= 0) & (ceiling_V <= 1))[np.isfinite(ceiling_V)].all():
        raise InputError(
            f"--ceiling {path}: found {np.nanmin(ceiling_V):g} to {np.nanmax(ceiling_V):g}; "
            "ceilings of r, 0 to 1, are accepted"
        )
    return Ceiling(ceiling_V.astype(np.float64), np.zeros(n_units), f"the file {path}")
