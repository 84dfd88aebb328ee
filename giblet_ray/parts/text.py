"""Text: what was said, embedded TR by TR."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from giblet_ray.parts.part import TEXT, FilmFiles, Made, Part, Prepared
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group


class EmbeddingConfig(Group):
    """Text: what is said during a TR, embedded in 1,024 dimensions."""

    model: str = "hashing"
    """hashing (no download), or a sentence-transformers model such as BAAI/bge-large-en-v1.5."""


class Text(Part):
    """text_TD, float32: T TRs, D dimensions; zero where nothing is said."""

    kind = "text"
    modality = "text"
    encoder = "vector"
    group = "embedding"
    made_from = (TEXT,)
    zero_is_silence = True
    libraries = ("openpyxl", "pysubs2")
    Config = EmbeddingConfig

    @property
    def has_network(self) -> bool:
        return self.settings.model != "hashing"

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
        return {"model": self.settings.model, "embedder_version": version(library)}

    def load(self, prepared: Prepared, device: str) -> None:
        from giblet_ray.features.embedder import load_embedder

        self._embedder = load_embedder(self.settings.model)

    def make(self, film: FilmFiles) -> Made:
        """Embed each TR's words; count the TRs in which nothing is said."""
        from giblet_ray.features.embedder import count_silent
        from giblet_ray.features.text import read_utterances, text_per_tr

        utterances = read_utterances(film.files[TEXT], film.seconds)
        texts = text_per_tr(utterances, film.n_trs, film.tr_seconds)
        description = self._embedder.describe()
        # The same weights are the same model, from whichever folder and by whichever version.
        incidental = {"version", "name"} if "weights_sha256" in description else {"version"}
        made_with = {key: value for key, value in description.items() if key not in incidental}
        facts = {"silent_trs": count_silent(texts)}
        facts |= {f"embedder_{key}": description[key] for key in incidental}
        return Made(self._embedder.embed(texts), made_with, facts)
