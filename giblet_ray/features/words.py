"""When each word is said, and which words are said in each TR.

The time of a cue is spread over its words by their letters; a table of words has their times. A
word is in the one TR that its middle lies in, so that nothing is known before it is half said, and
no word counts twice::

    seconds       0        1.5       3.0       4.5
    TR            |    0    |    1    |    2    |     each [start, end)
    cue                 [------------)               "Look, my dear John"
    letters             LookmydearJohn
    middles               *  *  *   *
    text            "Look," "my dear    ""
                             John"
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from giblet_ray.features.text import TIME_SLACK, Utterance


class Word(NamedTuple):
    """A word as it is written, and when half of it is said."""

    seconds: float
    text: str


class Spoken(NamedTuple):
    """What is said in a TR."""

    before: str
    """The last words that were said before the TR, oldest first, joined by spaces."""
    text: str
    """The words that are said in it, likewise; "" where there is none."""
    n_words: int
    """Number of words in `text`."""


def spoken_words(utterances: Sequence[Utterance]) -> list[Word]:
    """Give every word its time: each lasts as long as its share of the utterance's letters.

    Parameters
    ----------
    utterances : sequence of Utterance
        Cues, or the words of a table. What stands between spaces is a word, if there is a letter
        or digit in it: no signs such as a subtitle's ♪.

    Returns
    -------
    list of Word
        In the order in which they are said.
    """
    words: list[Word] = []
    for said in utterances:
        written = [token for token in said.text.split() if re.search(r"\w", token)]
        letters = np.array([len(re.findall(r"\w", token)) for token in written])
        middles = (np.cumsum(letters) - letters / 2) / max(letters.sum(), 1)
        times = said.onset_seconds + middles * (said.offset_seconds - said.onset_seconds)
        words += [Word(float(time), token) for time, token in zip(times, written, strict=True)]
    return sorted(words, key=lambda word: word.seconds)


def spoken_per_tr(
    words: Sequence[Word],
    n_trs: int,
    tr_seconds: float,
    context_words: int = 0,
    start_seconds: float = 0.0,
) -> list[Spoken]:
    """Give each TR the words that are said in it, and those before.

    Parameters
    ----------
    words : sequence of Word
        In the order in which they are said.
    n_trs : int
        What is said after the last TR is in none: in a film's incomplete last TR.
    tr_seconds : float
        Duration of a TR (s).
    context_words : int
        Words before a TR's own that are given with them.
    start_seconds : float
        Time of the film at which TR 0 begins (s); words before it are in none.

    Returns
    -------
    list of Spoken
        Of each TR.
    """
    tr_of_word = np.floor(
        [(word.seconds - start_seconds) / tr_seconds + TIME_SLACK for word in words]
    )
    edges = np.searchsorted(tr_of_word, np.arange(n_trs + 1)).tolist()
    written = [word.text for word in words]
    return [
        Spoken(
            before=" ".join(written[max(0, start - context_words) : start]),
            text=" ".join(written[start:stop]),
            n_words=stop - start,
        )
        for start, stop in itertools.pairwise(edges)
    ]
