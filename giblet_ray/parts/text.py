"""Text: what was said, embedded TR by TR.

A row points where the TR's words point together, and is as long as there are words: the embedding
has length 1, whatever is said, and is multiplied by their number. So the word rate is in the row,
twice the words weigh twice, and no word is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from pydantic import Field

from giblet_ray.parts.part import TEXT, FilmFiles, Made, Part, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class EmbeddingConfig(Group):
    """Text: what is said during a TR, embedded in 1,024 dimensions."""

    model: str = "hashing"
    """hashing (no download), or a sentence-transformers model such as BAAI/bge-large-en-v1.5."""
    spread: Literal["words", "cue"] = "words"
    """words: each word is in the TR in which it is said; a cue's time is spread over its words by
    their letters, a table of words (word, start_seconds, stop_seconds) has their times; vectors
    are as long as there are words. cue: whole cues are in every TR that they touch, said or not
    yet, and all vectors are alike in length: for descriptions of scenes, and languages that are
    written without spaces."""
    context_words: int = Field(20, ge=0)
    """Words before those of a TR that a sentence model reads them with; the vector is that of the
    TR's own words, as they are meant there. 0: they are read alone, as hashing reads them and
    whole cues in any case."""


class Text(Part):
    """text_TD, float32: T TRs, D dimensions; as long as there are words in the TR, 0 of none."""

    kind = "text"
    modality = "text"
    encoder = "vector"
    group = "embedding"
    from_any_second = True
    made_from = (TEXT,)
    zero_is_silence = True
    libraries = ("openpyxl", "pysubs2")
    Config = EmbeddingConfig

    @property
    def has_network(self) -> bool:
        return self.settings.model != "hashing"

    @property
    def context_words(self) -> int:
        """Words before those of a TR that they are read with."""
        in_context = self.has_network and self.settings.spread == "words"
        return int(self.settings.context_words) if in_context else 0

    def value(self, film: FilmFiles) -> ValueType:
        from giblet_ray.features.embedder import TEXT_DIM

        return ValueType(dtype="float32", shape=(TEXT_DIM,))

    def check(self, film: FilmFiles) -> None:
        from giblet_ray.features.embedder import load_embedder
        from giblet_ray.features.text import read_utterances

        if self.has_network and find_spec("sentence_transformers") is None:
            load_embedder(self.settings.model)  # Says what to install.
        read_utterances(film.files[TEXT], film.seconds)

    def recipe(self, films: Sequence[FilmFiles]) -> dict[str, Any]:
        library = "sentence-transformers" if self.has_network else "scikit-learn"
        chosen = {"spread": self.settings.spread, "context_words": self.context_words}
        return {"model": self.settings.model, **chosen, "embedder_version": version(library)}

    def load(self, prepared: Prepared, device: str) -> None:
        from giblet_ray.features.embedder import load_embedder

        self._embedder = load_embedder(self.settings.model)

    def make(self, film: FilmFiles) -> Made:
        """Embed each TR's words; count them, and the TRs in which nothing is said."""
        from giblet_ray.features.embedder import count_silent
        from giblet_ray.features.text import read_utterances, text_per_tr
        from giblet_ray.features.words import spoken_per_tr, spoken_words

        notes: list[str] = []
        utterances = read_utterances(film.files[TEXT], film.seconds, notes)
        made_with: dict[str, Any] = {"spread": self.settings.spread}
        facts: dict[str, Any] = {}
        if self.settings.spread == "cue":
            timing = (film.n_trs, film.tr_seconds, film.start_seconds)
            texts = text_per_tr(utterances, *timing)
            text_TD = self._embedder.embed(texts)
        else:
            spoken = spoken_per_tr(
                spoken_words(utterances),
                film.n_trs,
                film.tr_seconds,
                self.context_words,
                film.start_seconds,
            )
            texts = [said.text for said in spoken]
            before = [said.before for said in spoken] if self.context_words else None
            n_words_T = np.array([said.n_words for said in spoken], np.float32)
            text_TD = self._embedder.embed(texts, before) * n_words_T[:, None]
            made_with |= {"context_words": self.context_words, "length": "words said in the TR"}
            facts["words"] = int(n_words_T.sum())
        description = self._embedder.describe()
        # The same weights are the same model, from whichever folder and by whichever version.
        incidental = {"version", "name"} if "weights_sha256" in description else {"version"}
        made_with |= {key: value for key, value in description.items() if key not in incidental}
        facts |= {"silent_trs": count_silent(texts)}
        facts |= {f"embedder_{key}": description[key] for key in incidental}
        return Made(text_TD, made_with, facts, notes)
