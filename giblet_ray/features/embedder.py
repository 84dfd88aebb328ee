"""From the words of a TR to a vector: hashed words, or a pretrained sentence model.

D is the dimension of an embedding, N the number of texts, K that of distinct texts, L tokens of a
text.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line

TEXT_DIM = 1024
"""D: what a data set's rows hold, and what the text encoder takes."""


def is_silent(text: str) -> bool:
    """Tell whether a text has no word: empty, or nothing but signs such as a subtitle's ♪."""
    return re.search(r"\w", text) is None


def count_silent(texts: Sequence[str]) -> int:
    """Count the texts without a word; these are the zero rows of :meth:`Embedder.embed`."""
    return sum(is_silent(text) for text in texts)


class Embedder(ABC):
    """Turns texts into vectors of unit length; silence into the zero vector.

    Attributes
    ----------
    name : str
        As given to :func:`load_embedder`.
    dim : int
        D.
    """

    name: str
    dim: int = TEXT_DIM

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Say what made the vectors: name, library, version, and settings or weights (JSON)."""

    @abstractmethod
    def _embed_words(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed distinct texts that each hold a word: (K, D), rows of unit length."""

    def _embed_in_context(self, texts: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Embed distinct texts, each behind what was said before it, likewise."""
        raise InputError(
            f"text embedder {self.name!r} reads each word by itself; use --embedding.context_words "
            "0, or a sentence model"
        )

    def embed(
        self, texts: Sequence[str], before: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Embed the text of each TR.

        Equal texts, as those of an utterance that lasts several TRs, are embedded once.

        Parameters
        ----------
        texts : sequence of str
            N texts.
        before : sequence of str, optional
            What was said before each, which it is read with: the embedding is that of the text's
            own words, as they are meant there. By default texts are read by themselves.

        Returns
        -------
        numpy.ndarray, float32, (N, D)
            Rows of Euclidean length 1; exactly zero where :func:`is_silent`.
        """
        embeddings_ND = np.zeros((len(texts), self.dim), np.float32)
        spoken = [i for i, text in enumerate(texts) if not is_silent(text)]
        if not spoken:
            return embeddings_ND
        read = [("" if before is None else before[i], texts[i]) for i in spoken]
        place = {pair: k for k, pair in enumerate(dict.fromkeys(read))}
        if before is None:
            distinct_KD = self._embed_words([text for _, text in place])
        else:
            distinct_KD = self._embed_in_context(list(place))
        embeddings_ND[spoken] = distinct_KD[[place[pair] for pair in read]]
        return embeddings_ND


class HashingEmbedder(Embedder):
    """Counts of words and word pairs, hashed to D signed buckets and scaled to unit length.

    Needs no download and no fitting, so that a word has the same place in every data set. The
    signs make inner products of hashed texts unbiased (Weinberger et al. 2009, section 3.1,
    doi:10.1145/1553374.1553516).
    """

    name = "hashing"

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        # scikit-learn's default token pattern leaves out words of one letter, such as "I". A text
        # of n words has 2n - 1 terms, an odd number, so that their signs never all cancel.
        self._settings = {
            "n_features": self.dim,
            "ngram_range": (1, 2),
            "token_pattern": r"(?u)\b\w+\b",
            "lowercase": True,
            "alternate_sign": True,
            "norm": "l2",
        }
        self._vectorizer = HashingVectorizer(dtype=np.float32, **self._settings)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "library": "scikit-learn",
            "version": version("scikit-learn"),
            "dim": self.dim,
            **{key: list(v) if isinstance(v, tuple) else v for key, v in self._settings.items()},
        }

    def _embed_words(self, texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(self._vectorizer.transform(texts).toarray(), np.float32)


class SentenceEmbedder(Embedder):
    """A pretrained sentence-transformers model, by its name on the Hugging Face hub or a folder.

    It runs on a GPU where the process sees one.

    Raises
    ------
    InputError
        sentence-transformers is not installed; the model cannot be found or loaded, is no
        sentence-transformers model, or does not give D numbers.
    """

    def __init__(self, name: str) -> None:
        instead = "or use 'hashing', which needs no download"
        try:
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.util import is_sentence_transformer_model
        except ImportError as error:
            raise InputError(
                f"text embedder {name!r} needs sentence-transformers ({error}); "
                f"install the extra: pip install 'giblet_ray[text]', {instead}"
            ) from error
        self.name = name
        try:
            # Of a model of another kind the library would make an untrained combination.
            known = is_sentence_transformer_model(name)
            self._model: Any = SentenceTransformer(name) if known else None
        except Exception as error:  # the hub's, the file system's and the format's own kinds
            raise InputError(
                f"text embedder {name!r} cannot be loaded ({one_line(error)}); {instead}"
            ) from error
        if self._model is None:
            raise InputError(
                f"text embedder {name!r} is neither 'hashing' nor a sentence-transformers model "
                "within reach (no modules.json found); give a model's name on the Hugging Face "
                f"hub or its folder, {instead}"
            )
        found_dim = self._embed_words(["probe"]).shape[1]
        if found_dim != self.dim:
            raise InputError(
                f"text embedder {name!r} gives {found_dim} numbers per text where {self.dim} are "
                "expected; use a model of that size, such as BAAI/bge-large-en-v1.5, "
                f"{instead}"
            )

    def describe(self) -> dict[str, Any]:
        """Name the model; the checksum is over its parameters, by name, wherever they lie."""
        import torch

        digest = hashlib.sha256()
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return {
            "name": self.name,
            "library": "sentence-transformers",
            "version": version("sentence-transformers"),
            "dim": self.dim,
            "weights_sha256": digest.hexdigest(),
        }

    def _embed_words(self, texts: list[str]) -> NDArray[np.float32]:
        self._check_lengths(texts)
        embeddings = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return self._checked_numbers(np.asarray(embeddings, np.float32))

    def _embed_in_context(self, texts: list[tuple[str, str]]) -> NDArray[np.float32]:
        """Take the mean of the tokens of a text's own words, as the model reads them in place.

        ::

            "... before" + " " + "text"  ->  tokens_LD  ->  mean over those of "text"  ->  length 1
        """
        read = [f"{before} {text}".strip() for before, text in texts]
        self._check_lengths(read)
        if not getattr(self._model.tokenizer, "is_fast", False):
            raise InputError(
                f"text embedder {self.name!r} does not tell which of its tokens are which words; "
                "use --embedding.context_words 0, or another model"
            )
        tokens = self._model.encode(
            read, output_value="token_embeddings", prompt="", show_progress_bar=False
        )
        places = self._model.tokenizer(read, return_offsets_mapping=True)["offset_mapping"]
        embeddings = []
        for whole, (_, text), tokens_LD, places_L in zip(read, texts, tokens, places, strict=True):
            if tuple(tokens_LD.shape) != (len(places_L), self.dim):
                raise InputError(
                    f"text embedder {self.name!r} gives {tuple(tokens_LD.shape)} numbers for the "
                    f"tokens of {whole[:40]!r}..., where {(len(places_L), self.dim)} are expected; "
                    "use --embedding.context_words 0, or another model"
                )
            first = len(whole) - len(text)
            # What a model adds at its start and end has no place: (0, 0).
            own = [k for k, (start, stop) in enumerate(places_L) if first < stop > start]
            mean_D = tokens_LD[own].float().mean(0).cpu().numpy()
            embeddings.append(mean_D / np.linalg.norm(mean_D))
        return self._checked_numbers(np.stack(embeddings).astype(np.float32))

    def _checked_numbers(self, embeddings_KD: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(embeddings_KD).all():
            raise InputError(
                f"text embedder {self.name!r} gives NaN or infinite numbers: its weights are "
                "broken; load another copy, or use 'hashing'"
            )
        return embeddings_KD

    def _check_lengths(self, texts: list[str]) -> None:
        """Refuse what the model would cut off in silence."""
        limit = self._model.max_seq_length
        for text in texts:
            n_tokens = len(self._model.tokenizer(text, truncation=False)["input_ids"])
            if limit is not None and n_tokens > limit:
                raise InputError(
                    f"text embedder {self.name!r} reads {limit} tokens, and the text of one TR, "
                    f"with what is read before it, has {n_tokens} ({text[:40]!r}...); shorten it, "
                    "lower --embedding.context_words, or use 'hashing'"
                )


def load_embedder(name: str = "hashing") -> Embedder:
    """Give the embedder of that name: "hashing", or a sentence-transformers model.

    Raises
    ------
    InputError
        See :class:`SentenceEmbedder`. No name ever gives random or untrained vectors.
    """
    return HashingEmbedder() if name == "hashing" else SentenceEmbedder(name)
