"""Which intervals of a data set's films show the same: found, grouped and said.

A film's end is often the next one's beginning, and a clip may stand in several films: what trains
there would be judged there. The manifest lists such intervals as ``data.split.same`` would, and a
split keeps each group in one set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from giblet_ray.features.fingerprint import Equal
from giblet_ray.parts.part import FilmFiles

Row = dict[str, Any]
"""group, stimulus, start_seconds, stop_seconds."""
Interval = tuple[str, float, float]
"""Stimulus, start and stop (s)."""

_ALIKE_SECONDS = 2.0
"""Intervals of a film that begin and end no farther apart are one, found by other films."""


def compare_films(films: Sequence[FilmFiles], tell: Callable[[str], None]) -> list[Row]:
    """Compare films, and each with itself, on the cluster that is connected to.

    Parameters
    ----------
    films : sequence of FilmFiles
        All of them.
    tell : callable
        Is told how far it is.

    Returns
    -------
    list of dict
        A row for each interval; rows of one group show the same.

    Raises
    ------
    InputError
        If a film cannot be decoded.
    """
    from giblet_ray.precompute.pipeline import equal_films

    return grouped(equal_films(films, tell))


def grouped(found: Sequence[Equal]) -> list[Row]:
    """Return groups of intervals that show the same, from where they begin on.

    A pair is of a group if it has one of its intervals. One that lies within, as a clip does in
    another version of its film, makes another group.
    """
    # Thousands of films may share an opening: a pair looks at its own films' intervals alone.
    films_of: dict[int, set[str]] = {}
    intervals_of: dict[str, dict[int, list[Interval]]] = {}
    for number, each in enumerate(found):
        pair = [
            (each.one, each.start, each.start + each.seconds),
            (each.other, each.other_start, each.other_start + each.seconds),
        ]
        touched = {
            group
            for interval in pair
            for group, known in intervals_of.get(interval[0], {}).items()
            if any(_is_one(one, interval) for one in known)
        }
        group = max(touched, key=lambda each: len(films_of[each]), default=number)
        joined: dict[str, list[Interval]] = {}
        for interval in pair:
            joined.setdefault(interval[0], []).append(interval)
        for other in touched - {group}:
            for film in films_of.pop(other):
                joined.setdefault(film, []).extend(intervals_of[film].pop(other))
        for film, more in joined.items():
            of_film = intervals_of.setdefault(film, {})
            of_film[group] = _merged([*of_film.get(group, ()), *more])
        films = films_of.pop(group, set())
        films.update(joined)
        films_of[group] = films
    rows = []
    for number, (group, films) in enumerate(films_of.items(), 1):
        intervals = (each for film in sorted(films) for each in intervals_of[film][group])
        for stimulus, start, stop in intervals:
            times = {"start_seconds": round(start, 2), "stop_seconds": round(stop, 2)}
            rows.append({"group": f"same-{number}", "stimulus": stimulus, **times})
    return rows


def same_in_words(rows: Sequence[Row]) -> list[str]:
    """Say what shows the same, a line for each group."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        said = f"{row['stimulus']} {row['start_seconds']:g} to {row['stop_seconds']:g} s"
        groups.setdefault(row["group"], []).append(said)
    return [
        f"note: these show or sound the same, and are kept in one set: {'; '.join(said)}"
        for said in groups.values()
    ]


def _is_one(one: Interval, other: Interval) -> bool:
    apart = max(abs(one[1] - other[1]), abs(one[2] - other[2]))
    return one[0] == other[0] and apart <= _ALIKE_SECONDS


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Join what is one, in order, until nothing more is."""
    merged: list[Interval] = []
    for each in sorted(intervals):
        if merged and _is_one(merged[-1], each):
            stimulus, start, stop = merged[-1]
            merged[-1] = (stimulus, start, max(stop, each[2]))
        else:
            merged.append(each)
    return merged if len(merged) == len(intervals) else _merged(merged)
