"""Words through a language model, beside the library called by hand on the whole text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_networks
import torch

from giblet_ray.errors import InputError
from giblet_ray.features.pretrained.network import LoadedNetwork, find_network, import_library
from giblet_ray.features.pretrained.words import word_states
from giblet_ray.features.words import Word

TR, N_TRS = 1.5, 5
WORDS = [
    Word(seconds, text)
    for seconds, text in (
        *((0.2, "Look,"), (0.7, "my"), (1.4, "dear"), (1.6, "Jöhn"), (3.1, "it"), (3.3, "is")),
        *((3.6, "over"), (6.1, "there"), (9.0, "late")),
    )
]


def by_hand(folder: Path, words: list[str]) -> np.ndarray:
    """Each word's mean over its bytes, which are tokens, of layers 2 and 4: (words, L, D)."""
    model = import_library().AutoModel.from_pretrained(folder).eval()
    tokenizer = import_library().AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(" ".join(words), return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens, output_hidden_states=True).hidden_states
    found, at = [], 1  # behind the mark of the beginning
    for number, word in enumerate(words):
        n_bytes = len(word.encode()) + (number > 0)  # with the space before it
        span = slice(at, at + n_bytes)
        found.append(np.stack([states[layer][0, span].mean(0) for layer in (2, 4)]))
        at += n_bytes
    assert at == tokens["input_ids"].shape[1]
    return np.stack(found)


def load(folder: Path) -> LoadedNetwork:
    network = LoadedNetwork(find_network(str(folder)), "cpu")
    network.layers = (2, 4)
    return network


def test_a_tr_has_the_sum_of_its_words_each_after_those_before_it() -> None:
    found_TLD = word_states(load(small_networks.of_words()), WORDS, N_TRS, TR, context_words=100)
    states_WLD = by_hand(small_networks.of_words(), [word.text for word in WORDS])
    np.testing.assert_allclose(found_TLD[0], states_WLD[:3].sum(0), atol=1e-4)
    np.testing.assert_allclose(found_TLD[1], states_WLD[3], atol=1e-4)
    np.testing.assert_allclose(found_TLD[2], states_WLD[4:7].sum(0), atol=1e-4)
    assert not found_TLD[3].any()
    np.testing.assert_allclose(found_TLD[4], states_WLD[7], atol=1e-4)


def test_a_short_context_is_read_in_steps_of_half_of_it() -> None:
    found_TLD = word_states(load(small_networks.of_words()), WORDS, N_TRS, TR, context_words=4)
    texts = [word.text for word in WORDS]
    wanted = [*by_hand(small_networks.of_words(), texts[:4])]
    for first in (2, 4, 6):
        wanted += [*by_hand(small_networks.of_words(), texts[first : first + 4])[2:]]
    assert len(wanted) == len(WORDS)
    np.testing.assert_allclose(found_TLD[2], np.sum(wanted[4:7], axis=0), atol=1e-4)
    np.testing.assert_allclose(found_TLD[4], wanted[7], atol=1e-4)


def test_a_film_that_is_seen_from_its_second_tr_on_gives_the_other_rows() -> None:
    network = load(small_networks.of_words())
    whole_TLD = word_states(network, WORDS, N_TRS, TR, 100)
    rest_TLD = word_states(network, WORDS, N_TRS - 1, TR, 100, start_seconds=TR)
    np.testing.assert_array_equal(rest_TLD, whole_TLD[1:])


def test_a_film_without_words_is_zero() -> None:
    found_TLD = word_states(load(small_networks.of_words()), [], N_TRS, TR, context_words=4)
    assert found_TLD.shape == (N_TRS, 2, 32)
    assert not found_TLD.any()


def test_a_network_that_looks_ahead_is_refused() -> None:
    sizes = {**small_networks.SMALL, "intermediate_size": 32, "vocab_size": 300}
    bert = small_networks.saved("Bert", sizes, small_networks.tokenizer())
    with pytest.raises(InputError, match="reads words with those after them; a causal language"):
        word_states(load(bert), WORDS, N_TRS, TR, context_words=4)


def test_more_tokens_than_a_network_reads_are_one_line() -> None:
    words = [Word(0.1, "x" * 300), Word(0.2, "y" * 300)]
    with pytest.raises(InputError, match=r"reads 512 tokens .* 2 words are 602: use fewer context"):
        word_states(load(small_networks.of_words()), words, N_TRS, TR, context_words=4)
