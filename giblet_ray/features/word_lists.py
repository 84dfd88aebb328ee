"""Words of a table with a row per TR, and in it lists of words and of their times.

As transcripts of the Algonauts challenge 2025 (CNeuroMod) have them, Python's literals in a .tsv::

    text_per_tr   words_per_tr      onsets_per_tr     durations_per_tr
    There's a     ["There's", "a"]  [18.97, 19.31]    [0.176, 0.08]
                  []                []                []

Onsets are seconds from the film's start, so that the rows' own place and number do not matter.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from giblet_ray.errors import InputError
from giblet_ray.features.source import Row, is_blank
from giblet_ray.features.subtitles import Cue


def words_of_lists(file: Path, columns: Sequence[int], rows: Iterable[Row]) -> list[Cue]:
    """Return the words of all rows, each with its times.

    Parameters
    ----------
    file : Path
        For messages.
    columns : sequence of int
        Where words, onsets (s) and durations (s) stand.
    rows : iterable of Row

    Raises
    ------
    InputError
        A cell is no list, or no list of words or numbers; lists of a row differ in length.
    """
    cues: list[Cue] = []
    for row in rows:
        where = f"{file}, row {row.number}"
        words, onsets, durations = (_list(row.cells[column], where) for column in columns)
        if not len(words) == len(onsets) == len(durations):
            raise InputError(
                f"{where}: has {len(words)} words, {len(onsets)} onsets and {len(durations)} "
                "durations; one of each per word is expected"
            )
        for word, onset, duration in zip(words, onsets, durations, strict=True):
            if not isinstance(word, str):
                raise InputError(f"{where}: {word!r} is no word; strings are expected")
            if said := " ".join(word.split()):
                start = _number(onset, where)
                place = f"row {row.number}, {said!r}"
                cues.append(Cue(place, start, start + _number(duration, where), said))
    return cues


def _list(cell: Any, where: str) -> list[Any]:
    if is_blank(cell):
        return []
    try:
        found = ast.literal_eval(str(cell).strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise InputError(f"{where}: {str(cell)[:40]!r} is no list, such as ['a', 'b'] or [1.5, 2]")
    return found


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: {value!r} is no time; finite seconds are expected")
    return float(value)
