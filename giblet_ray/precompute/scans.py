"""Scans beside one another: which repeat each is, and which phase of its film it sees."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from giblet_ray.config import PrecomputeJob
from giblet_ray.errors import InputError
from giblet_ray.features.media import Film, tr_count
from giblet_ray.features.source import split_source
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.find_scans import FoundScan, find_scans
from giblet_ray.precompute.scan_plan import ScanPlan, plan_scan
from giblet_ray.precompute.scan_table import ScanRow, check_ranges
from giblet_ray.spaces.kinds import CHOOSING, space_of_scan
from giblet_ray.spaces.space import Space

Phases = dict[str, tuple[FilmFiles, ...]]
"""Every film as the scans see it: cut into TRs from one or several times of it on."""


def plan_scans(
    job: PrecomputeJob,
    films: Sequence[FilmFiles],
    measured: Mapping[str, Film],
    rows: Sequence[ScanRow] | None = None,
) -> tuple[tuple[ScanPlan, ...], Phases]:
    """Find out whose the scans are and what of each is taken, and compare them with one another.

    Parameters
    ----------
    job : PrecomputeJob
    films : sequence of FilmFiles
    measured : mapping of str to Film
        What is known of each film's streams, by its name.
    rows : sequence of ScanRow, optional
        The scans, where they are known (default: those of the names and of the table).

    Raises
    ------
    InputError
        For a scan that cannot be read, or is of nobody, of no film or of another length; for two
        that are the same; for units that differ between the scans of a subject; for a table that
        does not go with the scans.
    """
    by_name = {film.name: film for film in films}
    found = find_scans(job, by_name, rows)
    for name in CHOOSING:
        given, without = getattr(job, name), "" if found else "scans (--bold)"
        if name == "atlas_names" and job.atlas is None:
            without = without or "--atlas"
        if given is not None and without:
            raise InputError(f"--{name} {given} is given without {without}")
    table, files = job.scan.confounds_path, {each.path for each in found}
    if table is not None and not Path(table).is_dir() and len(files) > 1:
        raise InputError(
            f"--scan.confounds_path {table} is no folder; {len(files)} scans need one that holds "
            "each scan's table"
        )

    @cache
    def film_from(stimulus: str, seconds: float) -> FilmFiles:
        film = by_name[stimulus]
        if not seconds:
            return film
        n_trs = tr_count(measured[stimulus], film.tr_seconds, seconds, job.film_lengths)
        return film.model_copy(update={"start_seconds": seconds, "n_trs": n_trs})

    plans: dict[tuple[str, str], dict[str, ScanPlan]] = {}
    ranges: list[tuple[ScanRow, str, tuple[int, int]]] = []
    n_units: dict[str, ScanPlan] = {}
    spaces: dict[str, Space] = {}
    for scan in found:
        repeats = plans.setdefault((scan.subject, scan.stimulus), {})
        if (same := repeats.get(scan.label)) is not None:
            raise _same_scan(scan, same.path, job.scan.pattern)
        plan, volumes = plan_scan(job, scan, partial(film_from, scan.stimulus))
        first = n_units.setdefault(scan.subject, plan)
        if plan.n_units != first.n_units:
            raise InputError(
                f"{scan.path} has {plan.n_units} voxels and {first.path} has {first.n_units}; all "
                "scans of a subject have the same voxels: put them in one space, under one mask"
            )
        if scan.subject in spaces:
            spaces[scan.subject].n_trs(*split_source(scan.path), tr_seconds=None)
        else:
            spaces[scan.subject] = space_of_scan(scan.path, **plan.choosing)
        plan = replace(plan, n_read=spaces[scan.subject].n_read)
        if scan.row is not None:
            ranges.append((scan.row, plan.path, volumes))
        repeats[scan.label] = plan
    check_ranges(ranges)
    seen: dict[str, dict[float, FilmFiles]] = {name: {} for name in by_name}
    for (_, stimulus), repeats in plans.items():
        for planned in repeats.values():
            seen[stimulus][planned.film.start_seconds] = planned.film
    phases = {
        name: tuple(seen[name][start] for start in sorted(seen[name])) or (film,)
        for name, film in by_name.items()
    }
    numbered = tuple(
        replace(scan, repeat=number, phase=phases[scan.film.name].index(scan.film))
        for repeats in plans.values()
        for number, (_, scan) in enumerate(sorted(repeats.items(), key=_in_order), 1)
    )
    return numbered, phases


def _same_scan(scan: FoundScan, other: str, pattern: str) -> InputError:
    again = f", repeat {scan.label}" if scan.label else ""
    return InputError(
        f"{scan.path} and {other} are both subject {scan.subject}'s scan of {scan.stimulus}{again};"
        " name one, or, if it was seen twice, say where names tell the {repeat}, as in "
        f"'sub-{{subject}}_ses-{{repeat}}' (--scan.pattern is {pattern!r})"
    )


def _in_order(repeat: tuple[str, ScanPlan]) -> list[tuple[int, str]]:
    """Sort 2 before 10, whatever their zeros, and ses-1_run-10 before ses-2_run-1."""
    words = re.split(r"(\d+)", repeat[0])
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in words]
