"""What is said when: subtitles or an annotation table, and the whole utterances of each TR.

:mod:`giblet_ray.features.words` gives each TR the words that are said in it instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from giblet_ray.errors import InputError
from giblet_ray.features.aligned import ALIGNED_SUFFIXES, read_gentle, read_textgrid
from giblet_ray.features.annotation_table import TABLE_SUFFIXES, choose_part, read_table
from giblet_ray.features.source import split_source
from giblet_ray.features.subtitles import SUBTITLE_SUFFIXES, Cue, read_subtitles

OVERHANG_SECONDS = 1.0
"""How far a cue may outlast its film: a last subtitle is often left standing over the cut."""


TIME_SLACK = 1e-6
"""Times come as decimals: 2.4 s / 0.8 s is 2.9999999999999996, and means 3 (TRs)."""


@dataclass(frozen=True)
class Utterance:
    """Words and the half-open interval of film time, in seconds, to which they belong."""

    onset_seconds: float
    offset_seconds: float
    text: str


def read_utterances(
    path: str | Path, film_seconds: float, notes: list[str] | None = None
) -> list[Utterance]:
    """Read subtitles (.srt, .vtt, .ass, .ssa), an annotation table (.csv, .tsv, .xlsx) or an
    alignment of words with sound (.TextGrid, gentle's .json).

    Subtitles lose their markup; comments, drawings and cues without words are left out. Text is
    UTF-8 (or UTF-16 with its byte order mark): another encoding is an error and not a guess,
    since a wrong guess yields wrong words that nobody notices.

    A table has one header row with a column for the onset, one for the offset or the duration,
    and one for the text, or for the word: word, start_seconds, stop_seconds (see
    :mod:`giblet_ray.features.annotation_table`; letter case, spaces, underscores and a trailing
    "(s)" do not matter), or lists of words (:mod:`giblet_ray.features.word_lists`). Times are
    seconds or ``[h:]mm:ss``. Of a workbook the first sheet is read. Where a table annotates several
    film parts, each with its own clock, ``table.xlsx::2`` means the rows of the second part; a part
    ends where the onsets fall back. Of a TextGrid the tier word is read, or
    ``story.TextGrid::NAME``.

    Parameters
    ----------
    path : str or Path
    film_seconds : float
        Duration of the film that the words belong to.
    notes : list of str, optional
        What was repaired is added to it, for the user to be told and for the record.

    Returns
    -------
    list of Utterance
        In order of onset, then of the file. Whitespace is collapsed to single spaces. An offset
        up to ``OVERHANG_SECONDS`` past the film's end is kept as it is.

    Raises
    ------
    InputError
        A missing, empty, undecodable or malformed file; an unknown extension or header; a time
        that is missing, not a number or negative; an offset before its onset; an utterance that
        starts at or past the film's end or ends more than ``OVERHANG_SECONDS`` after it; a table
        of several parts of which none is chosen; words that are not in the order of their onsets.
    """
    file, part = split_source(path)
    repaired: list[str] = []
    suffix = file.suffix.lower()
    if part is not None and suffix not in (*TABLE_SUFFIXES, ".textgrid"):
        raise InputError(f"{path}: '::' chooses a part of a table, and {suffix} is no table")
    if suffix in SUBTITLE_SUFFIXES:
        cues = read_subtitles(file, repaired)
    elif suffix == ".textgrid":
        cues = read_textgrid(file, part, repaired)
    elif suffix == ".json":
        cues = read_gentle(file, repaired)
    elif suffix in TABLE_SUFFIXES:
        cues = choose_part(read_table(file, repaired), file, part)
    else:
        accepted = ", ".join(SUBTITLE_SUFFIXES + TABLE_SUFFIXES + ALIGNED_SUFFIXES)
        raise InputError(
            f"{file}: extension {suffix!r} is not known for text; accepted: {accepted}"
        )
    if not cues:
        raise InputError(f"{file}: holds no utterance (no cue or row with text)")
    for cue in cues:
        _check_times(cue, file, film_seconds)
    if notes is not None:
        notes += [f"{file.name}: {each}" for each in repaired]
    utterances = [Utterance(cue.onset_seconds, cue.offset_seconds, cue.text) for cue in cues]
    return sorted(utterances, key=lambda said: said.onset_seconds)


def text_per_tr(
    utterances: Sequence[Utterance], n_trs: int, tr_seconds: float, start_seconds: float = 0.0
) -> list[str]:
    """Give each TR the whole utterances that overlap it.

    ::

        seconds       0        1.5       3.0       4.5       6.0
        TR            |    0    |    1    |    2    |    3    |     each [start, end)
        "Hello John"     [-----------)
        "Look"                              [-)
        text          "Hello     "Hello     "Look"    ""
                       John"      John"

    An utterance that ends where a TR starts is not in that TR. One without duration belongs to
    the one TR that holds its onset.

    Parameters
    ----------
    utterances : sequence of Utterance
    n_trs : int
        What lies past the last TR has no TR to go to: a film's incomplete last TR.
    tr_seconds : float
    start_seconds : float
        Time of the film at which TR 0 begins (s); what ends before it is in none.

    Returns
    -------
    list of str
        ``n_trs`` texts; the utterances of one TR in order of onset, joined by a space; "" where
        there is none.
    """
    said_in: list[list[str]] = [[] for _ in range(n_trs)]
    for utterance in sorted(utterances, key=lambda said: said.onset_seconds):
        onset, offset = (
            (seconds - start_seconds) / tr_seconds
            for seconds in (utterance.onset_seconds, utterance.offset_seconds)
        )
        first = math.floor(onset + TIME_SLACK)
        last = max(first, math.ceil(offset - TIME_SLACK) - 1)
        for tr in range(max(0, first), min(last + 1, n_trs)):
            said_in[tr].append(utterance.text)
    return [" ".join(texts) for texts in said_in]


def _check_times(cue: Cue, file: Path, film_seconds: float) -> None:
    onset, offset = cue.onset_seconds, cue.offset_seconds
    where = f"{file}, {cue.place}"
    if not (math.isfinite(onset) and math.isfinite(offset)):
        raise InputError(f"{where}: times {onset} to {offset} are not finite seconds")
    if onset < 0:
        raise InputError(f"{where}: onset {onset:g} s is before the film's start")
    if offset < onset:
        raise InputError(f"{where}: offset {offset:g} s is before onset {onset:g} s")
    if onset >= film_seconds or offset > film_seconds + OVERHANG_SECONDS:
        raise InputError(
            f"{where}: {onset:g} s to {offset:g} s lies past the film's end at "
            f"{film_seconds:g} s; do text and film belong together?"
        )
