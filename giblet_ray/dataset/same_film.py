"""The table of intervals that show the same: ``--data.split.same``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.splits import SameFilm, whole_trs
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.tsv import read_tsv

_COLUMNS = ("group", "stimulus", "start_seconds", "stop_seconds")


def read_same(path: str, n_trs: Mapping[str, int], tr_seconds: float) -> tuple[SameFilm, ...]:
    """Read which intervals of films show the same.

    Parameters
    ----------
    path : str
        Tab-separated table with the columns group, stimulus, start_seconds and stop_seconds: rows
        of one group show the same.
    n_trs : mapping of str to int
        TRs of each stimulus that is used. Rows of others are passed over.
    tr_seconds : float
        TR, in seconds. Every TR that an interval touches belongs to it.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or a time is none.
    """
    where = f"--data.split.same {path}"
    columns, rows = read_tsv(path, where)
    for column in _COLUMNS:
        if column not in columns:
            raise InputError(
                f"{where}: has no column {column}{nearest(column, columns)}; "
                f"{', '.join(_COLUMNS)} are expected, parted by tabs"
            )
    return same_films([row for _, row in rows], where, n_trs, tr_seconds)


def same_films(
    rows: Iterable[Mapping[str, Any]], where: str, n_trs: Mapping[str, int], tr_seconds: float
) -> tuple[SameFilm, ...]:
    """Return the groups of intervals that rows of a table, or of a manifest, say.

    Parameters
    ----------
    rows : iterable of mapping
        With the columns of the table.
    where : str
        Where they stand, for messages.
    n_trs, tr_seconds
        As for :func:`read_same`.

    Raises
    ------
    InputError
        If a time is none, or lies beyond its film.
    """
    groups: dict[str, list[Span]] = {}
    for number, row in enumerate(rows, 2):
        try:
            start, stop = float(row["start_seconds"]), float(row["stop_seconds"])
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}, line {number}: a time is no number: {error}") from error
        stimulus = row["stimulus"]
        if not 0 <= start < stop < math.inf:
            raise InputError(
                f"{where}, line {number}: from {start:g} to {stop:g} s; times from 0 on that rise "
                "are accepted"
            )
        if stimulus in n_trs:
            last = min(n_trs[stimulus], whole_trs(stop, tr_seconds))
            first = math.floor(start / tr_seconds + 1e-9)
            if first >= last:
                raise InputError(
                    f"{where}, line {number}: {stimulus} ends at "
                    f"{n_trs[stimulus] * tr_seconds:g} s, before {start:g} s"
                )
            groups.setdefault(row["group"], []).append(Span(stimulus, first, last))
    return tuple(SameFilm(group, tuple(spans)) for group, spans in groups.items())
