"""Words that were aligned to sound: Praat's TextGrids, and what gentle writes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from giblet_ray.errors import InputError
from giblet_ray.features.source import decode_text
from giblet_ray.features.subtitles import Cue

ALIGNED_SUFFIXES = (".textgrid", ".json")

WORD_TIERS = ("word", "words")
"""Names of the tier of a TextGrid that holds words, in any case."""
NOT_WORDS = frozenset(("br", "lg", "ls", "ns", "sentence_end", "sentence_start", "sil", "sp"))
"""Marks of silence, breath, laughter, lips and noise among words, in any case, in braces or not."""

_FREE = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)')
"""What Praat reads of a text file: strings, flags and numbers that stand alone; all else is for
people, as in ``xmin = 0.5`` or ``intervals [3]:``."""


class _Mark(NamedTuple):
    """What a tier says of a stretch of time, or of a moment."""

    onset_seconds: float
    offset_seconds: float
    text: str


def read_textgrid(file: Path, tier: str | None, notes: list[str]) -> list[Cue]:
    """Read the words of a TextGrid, long or short; marks that are no words are left out.

    Parameters
    ----------
    file : Path
    tier : str, optional
        Tier that holds them (default: the one called word or words).
    notes : list of str
        How many marks were left out is added to it.

    Raises
    ------
    InputError
        It cannot be decoded, is no whole TextGrid, or has no such tier of intervals.
    """
    tiers = _tiers(file)
    accepted = WORD_TIERS if tier is None else (tier.lower(),)
    found = [name for name in tiers if name.lower() in accepted]
    if len(found) != 1:
        has = ", ".join(map(repr, tiers)) or "none"
        raise InputError(
            f"{file}: {len(found)} tiers are called {' or '.join(accepted)}; it has {has}: "
            f"{file.name}::NAME chooses one"
        )
    cues, n_other = [], 0
    for number, mark in enumerate(tiers[found[0]], 1):
        words = " ".join(mark.text.split())
        if words.startswith("{") or words.lower() in NOT_WORDS:
            n_other += 1
        elif words:
            cues.append(Cue(f"{found[0]} {number}", mark.onset_seconds, mark.offset_seconds, words))
    if n_other:
        notes.append(f"{n_other} marks that are no words, such as sp, are left out")
    return cues


def _tiers(file: Path) -> dict[str, list[_Mark]]:
    """Return the tiers of intervals by name."""
    values = _free_values(decode_text(file))
    tiers: dict[str, list[_Mark]] = {}
    try:
        header = list(itertools.islice(values, 6))
        if header[:2] != ["ooTextFile", "TextGrid"]:
            raise InputError(f"{file}: is no TextGrid, which begins with 'ooTextFile', 'TextGrid'")
        for _ in range(_count(header[5]) if header[4] == "exists" else 0):
            kind, name, _, _, n_marks = itertools.islice(values, 5)
            n_times = 2 if kind == "IntervalTier" else 1
            marks = []
            for _ in range(_count(n_marks)):
                *times, text = itertools.islice(values, n_times + 1)
                marks.append(_Mark(float(times[0]), float(times[-1]), str(text)))
            if kind == "IntervalTier":
                tiers[str(name)] = tiers.get(str(name), []) + marks
    except (ValueError, IndexError) as error:
        raise InputError(f"{file}: is no whole TextGrid, as Praat writes it ({error})") from error
    return tiers


def _free_values(text: str) -> Iterator[str | float]:
    """Yield the strings, flags and numbers of a text file of Praat's."""
    for found in _FREE.finditer(text):
        string, flag, number = found.groups()
        yield float(number) if number is not None else flag or (string or "").replace('""', '"')


def _count(value: str | float) -> int:
    return int(float(value))


def read_gentle(file: Path, notes: list[str]) -> list[Cue]:
    """Read the words of what gentle writes (align.json); those without a time are left out.

    Raises
    ------
    InputError
        It cannot be decoded, is no JSON, or holds no list of words with numbers as times.
    """
    try:
        content = json.loads(decode_text(file))
        words: list[dict[str, Any]] = [dict(each) for each in content["words"]]
        timed = [each for each in words if "start" in each and "end" in each]
        cues = [
            Cue(f"word {number}", float(each["start"]), float(each["end"]), said)
            for number, each in enumerate(timed, 1)
            if (said := " ".join(str(each["word"]).split()))
        ]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{file}: is no alignment of gentle's: a list 'words', each with 'word', 'start' and "
            f"'end' where it was found, is expected ({type(error).__name__}: {error})"
        ) from error
    if n_lost := len(words) - len(timed):
        notes.append(
            f"{n_lost} of {len(words)} words were not found in the sound, so have no time: left out"
        )
    return cues
