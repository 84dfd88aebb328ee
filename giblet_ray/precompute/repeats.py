"""Scans of one subject and film as one: the mean over repeats, which has less noise than each.

::

    TR of the film    0   1   2   3   4   5   6   7
    first time        a   a   a   a   a   .   a   a       . scrubbed
    second time               b   b   b   b   b   b   b   begins later, and goes on
    mean              a   a   ab  ab  ab  b   ab  ab  b

T is the number of TRs, V of units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.precompute.units import Repeat, Unit

if TYPE_CHECKING:
    from giblet_ray.precompute.scan_plan import ScanPlan


def by_shard(scans: Sequence[ScanPlan], average: bool) -> list[tuple[ScanPlan, ...]]:
    """Return the scans of each shard: one, or all of a subject and film.

    Raises
    ------
    InputError
        If scans that are to be averaged saw their film at other times of their TRs.
    """
    if not average:
        return [(scan,) for scan in scans]
    found: dict[tuple[str, str], tuple[ScanPlan, ...]] = {}
    for scan in scans:
        whose = (scan.subject, scan.film.name)
        found[whose] = (*found.get(whose, ()), scan)
    for same in found.values():
        for other in same[1:]:
            if other.phase != same[0].phase:
                raise InputError(
                    f"--scan.repeats average: {same[0].path} sees {other.film.name} from "
                    f"{same[0].film.start_seconds:g} s on, and {other.path} from "
                    f"{other.film.start_seconds:g} s: their TRs are not the same; keep them apart "
                    "(--scan.repeats separate)"
                )
    return list(found.values())


def mean_over_repeats(
    unit: Unit, read: Callable[[Repeat], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the mean of scans at each TR, over those that have it, (T, V).

    Each scan is first z-scored as a whole, unit by unit, so that none counts for more by its scale.
    A unit that is constant in one of them, or not finite at a TR that it has, is NaN.

    Parameters
    ----------
    unit : Unit
        The shard.
    read : callable
        Gives a scan's BOLD, (TRs, V); NaN at TRs that are scrubbed.
    """
    total_TV = np.zeros((unit.n_trs, *unit.value.shape))
    n_T = np.zeros(unit.n_trs)
    for repeat in unit.repeats:
        bold_TV = read(repeat)
        there_T = np.isfinite(bold_TV).any(axis=1)
        used_TV = bold_TV[there_T].astype(np.float64)
        std_V = used_TV.std(axis=0)
        std_V[std_V == 0] = np.nan
        rows = repeat.row + np.flatnonzero(there_T)
        total_TV[rows] += (used_TV - used_TV.mean(axis=0)) / std_V
        n_T[rows] += 1
    with np.errstate(invalid="ignore"):  # a TR that no scan has: NaN
        return np.asarray(total_TV / n_T[:, None], np.float32)


def as_repeats(scans: Sequence[ScanPlan]) -> tuple[Repeat, ...]:
    """Return how each of some scans is read, and where its rows go."""
    first_tr = min(scan.taken.first_tr for scan in scans)
    return tuple(
        Repeat(
            files={"scan": role_of("scan", number)}
            | ({} if scan.confounds is None else {"confounds": role_of("confounds", number)}),
            volumes=scan.taken.volumes,
            scrubbed=scan.scrubbed,
            confounds=scan.columns,
            row=scan.taken.first_tr - first_tr,
        )
        for number, scan in enumerate(scans, 1)
    )


def as_one(scans: Sequence[ScanPlan]) -> ScanPlan:
    """Return the plan of their mean: from the first TR that one has to the last."""
    if len(scans) == 1:
        return scans[0]
    first = min(scans, key=lambda scan: scan.taken.first_tr)
    n_trs = max(scan.taken.stop_tr for scan in scans) - first.taken.first_tr
    taken = replace(first.taken, volumes=(0, n_trs))
    return replace(scans[0], taken=taken, scrubbed=(), repeat=1)


def role_of(role: str, number: int) -> str:
    """Return the role of a file of the first scan of some, the second, ..."""
    return role if number == 1 else f"{role} of repeat {number}"
