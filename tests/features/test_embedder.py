import itertools
import json
import re
import sys
import types

import numpy as np
import pytest
import torch
from sklearn.feature_extraction import FeatureHasher

from giblet_ray.errors import InputError
from giblet_ray.features.embedder import TEXT_DIM, count_silent, load_embedder

TEXTS = ["Hello John, I see.", "", "♪ ♪", "I", "Hello John, I see.", "  ", "hello\njohn i SEE"]


def hashed_by_hand(text):
    words = re.findall(r"\w+", text.lower())
    terms = words + [f"{a} {b}" for a, b in itertools.pairwise(words)]
    counts = FeatureHasher(TEXT_DIM, input_type="string").transform([terms]).toarray()[0]
    return counts / np.linalg.norm(counts)


def test_hashing_counts_words_and_pairs():
    embeddings = load_embedder().embed(TEXTS)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (len(TEXTS), TEXT_DIM)
    for i in (0, 3, 4, 6):
        np.testing.assert_allclose(embeddings[i], hashed_by_hand(TEXTS[i]), rtol=1e-6)
    np.testing.assert_array_equal(embeddings[0], embeddings[6])


def test_silence_is_exactly_zero_and_counted():
    embeddings = load_embedder().embed(TEXTS)
    assert (~embeddings.any(axis=1)).sum() == count_silent(TEXTS) == 3
    assert load_embedder().embed([]).shape == (0, TEXT_DIM)
    assert not load_embedder().embed(["", "..."]).any()


def test_words_never_cancel_to_silence():
    draw = np.random.default_rng(5)
    texts = [" ".join(draw.choice(list("abcdefghi"), draw.integers(1, 9))) for _ in range(500)]
    norms = np.linalg.norm(load_embedder().embed(texts), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_description_is_json_and_names_the_library():
    described = json.loads(json.dumps(load_embedder().describe()))
    assert described["name"] == "hashing"
    assert described["library"] == "scikit-learn"
    assert described["ngram_range"] == [1, 2]


class Tokens:
    """A fast tokenizer: one token per word, and one at either end that stands for none."""

    is_fast = True

    def __call__(self, text, truncation=True, return_offsets_mapping=False):
        if not return_offsets_mapping:
            assert truncation is False
            return {"input_ids": text.split()}
        words = [[match.span() for match in re.finditer(r"\S+", each)] for each in text]
        return {"offset_mapping": [[(0, 0), *spans, (0, 0)] for spans in words]}


class StandInModel:
    """What the package uses of sentence_transformers.SentenceTransformer."""

    max_seq_length = 6
    dim = TEXT_DIM
    fill = 1.0

    def __init__(self, name):
        self.encoded = []

    tokenizer = Tokens()

    def encode(
        self, texts, normalize_embeddings=False, show_progress_bar=False, prompt=None,
        output_value="sentence_embedding",
    ):  # fmt: skip
        self.encoded.append(texts)
        if output_value == "token_embeddings":
            # Of a token: how many came before, and how many letters it has.
            tokens = [["", *text.split(), ""] for text in texts]
            return [
                torch.tensor([[k, len(word), *[0.0] * (self.dim - 2)] for k, word in enumerate(of)])
                for of in tokens
            ]
        assert normalize_embeddings
        return np.full((len(texts), self.dim), self.fill) / self.dim**0.5

    def state_dict(self):
        return {"b": torch.ones(2, dtype=torch.bfloat16), "a": torch.tensor(3)}


@pytest.fixture
def library(monkeypatch):
    """Stand in for sentence-transformers, which is an optional extra."""

    def install(model=StandInModel, known=True):
        library = types.ModuleType("sentence_transformers")
        library.SentenceTransformer = model
        util = types.ModuleType("sentence_transformers.util")
        util.is_sentence_transformer_model = lambda name: known
        monkeypatch.setitem(sys.modules, "sentence_transformers", library)
        monkeypatch.setitem(sys.modules, "sentence_transformers.util", util)
        monkeypatch.setattr("giblet_ray.features.embedder.version", lambda package: "5.0")

    return install


def test_sentence_model_sees_each_text_once_and_no_silence(library):
    library()
    embedder = load_embedder("some/model")
    embeddings = embedder.embed(["b c", "", "a", "b c"])
    assert embedder._model.encoded[-1] == ["b c", "a"]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), [1, 0, 1, 1], rtol=1e-5)
    assert embeddings.dtype == np.float32


def test_sentence_model_is_described_with_a_checksum_of_its_weights(library):
    class Changed(StandInModel):
        def state_dict(self):
            return {**super().state_dict(), "a": torch.tensor(4)}

    sums = []
    for model in (StandInModel, StandInModel, Changed):
        library(model)
        described = load_embedder("some/model").describe()
        assert described["name"] == "some/model"
        sums.append(described["weights_sha256"])
    assert sums[0] == sums[1] != sums[2]


def refusal(name, call=lambda embedder: None):
    with pytest.raises(InputError) as caught:
        call(load_embedder(name))
    assert "\n" not in str(caught.value)
    assert "hashing" in str(caught.value)
    return str(caught.value)


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    assert "pip install 'giblet_ray[text]'" in refusal("BAAI/bge-large-en-v1.5")


def test_models_that_cannot_be_had_are_refused(library):
    class Absent(StandInModel):
        def __init__(self, name):
            raise OSError(f"{name} is not\nreachable")

    library(Absent)
    assert "'a/b' cannot be loaded (a/b is not reachable)" in refusal("a/b")
    library(known=False)
    assert "no modules.json" in refusal("a/b")


def test_models_of_another_size_or_with_broken_weights_are_refused(library):
    library(type("Small", (StandInModel,), {"dim": 384}))
    assert "gives 384 numbers per text where 1024 are expected" in refusal("a/b")
    library(type("Broken", (StandInModel,), {"fill": np.nan}))
    with pytest.raises(InputError, match="NaN or infinite"):
        load_embedder("a/b")


def test_words_are_read_behind_those_before_and_embedded_alone(library):
    library()
    embedder = load_embedder("some/model")
    texts, before = ["b ccc", "", "b ccc", "b ccc"], ["", "x", "a aa", ""]
    found = embedder.embed(texts, before)
    assert embedder._model.encoded[-1] == ["b ccc", "a aa b ccc"]
    # Mean place and letters of the tokens of "b ccc", which come first, or third and fourth.
    wanted = np.array([[1.5, 2], [0, 1], [3.5, 2], [1.5, 2]])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    wanted[1] = 0
    np.testing.assert_allclose(found[:, :2], wanted, rtol=1e-6)
    assert not found[:, 2:].any()


def test_models_that_do_not_know_context_are_refused(library):
    hello = (["hello"], ["oh"])
    with pytest.raises(InputError, match="'hashing' reads each word by itself"):
        load_embedder().embed(*hello)
    slow = type("Slow", (Tokens,), {"is_fast": False})()
    library(type("Model", (StandInModel,), {"tokenizer": slow}))
    with pytest.raises(InputError, match="which of its tokens are which words; use --embedding"):
        load_embedder("a/b").embed(*hello)

    class Reduced(StandInModel):
        def encode(self, texts, **how):
            found = super().encode(texts, **how)
            return [each[:, :384] for each in found] if "output_value" in how else found

    library(Reduced)
    with pytest.raises(InputError, match=r"gives \(4, 384\) numbers .* \(4, 1024\) are expected"):
        load_embedder("a/b").embed(*hello)


def test_text_that_a_model_would_cut_off_is_refused(library):
    library()
    message = refusal("a/b", lambda embedder: embedder.embed(["one two three four five six seven"]))
    assert "reads 6 tokens, and the text of one TR, with what is read before it, has 7" in message
    message = refusal("a/b", lambda embedder: embedder.embed(["five six seven"], ["1 2 3 4"]))
    assert "has 7" in message
