"""The demo film's words: subtitles on a few topics, each with a small vocabulary of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pysubs2

from giblet_ray.demo.script import Scene


@dataclass(frozen=True)
class Topic:
    """What is talked about, in which words, and how fast."""

    name: str
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    words_per_second: float

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words that belong to this topic alone."""
        return frozenset(self.nouns + self.verbs)


TOPICS = (
    Topic(
        "harbour",
        ("boat", "sailor", "captain", "anchor", "wave", "lighthouse"),
        ("sails", "drifts", "rows"),
        2.0,
    ),
    Topic(
        "kitchen",
        ("soup", "bread", "cook", "oven", "butter", "spoon"),
        ("stirs", "bakes", "tastes"),
        3.5,
    ),
    Topic(
        "forest",
        ("oak", "fox", "owl", "river", "moss", "hunter"),
        ("hides", "grows", "howls"),
        2.0,
    ),
    Topic(
        "city",
        ("taxi", "tower", "bridge", "police", "market", "tram"),
        ("honks", "hurries", "shouts"),
        3.5,
    ),
)
# One kind for each topic, and a last one for silence.
N_KINDS = len(TOPICS) + 1

_JOINING = ("near", "behind", "without", "beside")
_SENTENCE_WORDS = 5
_PAUSE = 0.05  # silent part of a sentence's time


def write_subtitles(
    path: Path,
    scenes: list[Scene],
    rng: np.random.Generator,
    is_silent: Callable[[float], bool] = lambda seconds: False,
) -> None:
    """Write the film's subtitles as SubRip (.srt).

    Parameters
    ----------
    path : pathlib.Path
        Where to write.
    scenes : list of Scene
        Whose kinds index ``TOPICS``; kind ``len(TOPICS)`` is silence.
    rng : numpy.random.Generator
        Where the sentences are drawn from.
    is_silent : callable
        From seconds to whether the sentence that is half spoken then is left out.
    """
    subtitles = pysubs2.SSAFile()
    for scene in scenes:
        if scene.kind == len(TOPICS):
            continue
        topic = TOPICS[scene.kind]
        length_seconds = scene.end_seconds - scene.start_seconds
        n_sentences = max(1, round(length_seconds * topic.words_per_second / _SENTENCE_WORDS))
        bounds = np.linspace(scene.start_seconds, scene.end_seconds, n_sentences + 1)
        for start_seconds, next_seconds in pairwise(bounds):
            event = pysubs2.SSAEvent(
                start=round(1000 * start_seconds),
                end=round(1000 * (next_seconds - _PAUSE * (next_seconds - start_seconds))),
                text=_sentence(topic, rng),
            )
            if not is_silent((start_seconds + next_seconds) / 2):
                subtitles.append(event)
    path.write_text(subtitles.to_string("srt"), encoding="utf-8")


def _sentence(topic: Topic, rng: np.random.Generator) -> str:
    """Five words: a noun, what it does, and where."""
    subject, place = rng.choice(topic.nouns, size=2, replace=False)
    words = [subject, rng.choice(topic.verbs), rng.choice(_JOINING), "the", place]
    return " ".join(words).capitalize() + "."
