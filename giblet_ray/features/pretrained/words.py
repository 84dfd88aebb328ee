"""A film's words through a pretrained language model: each as it is meant after those before it.

::

    words     w0 w1 w2 w3 w4 w5 w6 w7 w8 ...      context of 4 words
    read      [w0 w1 w2 w3]
                    [w2 w3 w4 w5]                 each read gives the words of its second half
                          [w4 w5 w6 w7]           (the first, all of its words)

So a word is read with half of the context at least, and all of it at most. A word's numbers are
the mean over its tokens, a TR's the sum over its words, as of every text here: the rate of words is
in them, and a TR without a word, or a film without words, is 0.

Shapes: T TRs, L layers, D numbers, N tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.pretrained.network import LoadedNetwork, import_library
from giblet_ray.features.text import TIME_SLACK
from giblet_ray.features.words import Word


def read_tokenizer(network: LoadedNetwork) -> Any:
    """Return what cuts text into a network's tokens.

    Raises
    ------
    InputError
        If it has none, or one that does not say where tokens lie in the text.
    """
    model = network.network.model
    try:
        tokenizer = import_library().AutoTokenizer.from_pretrained(network.folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{model}: has no tokenizer: {one_line(error)}") from error
    if not tokenizer.is_fast:
        raise InputError(
            f"{model}: its tokenizer does not say where tokens lie; a fast one is needed"
        )
    return tokenizer


def check_it_looks_back(network: LoadedNetwork) -> None:
    """Make sure that a network reads no word with those after it.

    Raises
    ------
    InputError
        If it does: a TR's numbers would hold what is said later.
    """
    import torch

    read = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    states_LBND = network.states({"input_ids": read})
    if not np.allclose(states_LBND[:, 0, :3], states_LBND[:, 1, :3], atol=1e-3, rtol=1e-3):
        raise InputError(
            f"{network.network.model}: reads words with those after them; a causal language model "
            "is accepted (sentence models: --embedding.model)"
        )


def word_states(
    network: LoadedNetwork,
    words: Sequence[Word],
    n_trs: int,
    tr_seconds: float,
    context_words: int,
    start_seconds: float = 0.0,
) -> np.ndarray:
    """Return what layers make of the words that are said in each TR.

    Parameters
    ----------
    network : LoadedNetwork
        A causal language model.
    words, n_trs, tr_seconds, start_seconds
        As :func:`giblet_ray.features.words.spoken_per_tr` takes them.
    context_words : int
        Words that are read at a time.

    Returns
    -------
    states_TLD : ndarray of float32
        Sum over the words whose middle lies in the TR; 0 where there is none.
    """
    states_TLD = np.zeros((n_trs, len(network.layers), network.network.n_numbers), np.float32)
    if not words:
        return states_TLD
    check_it_looks_back(network)
    tokenizer = read_tokenizer(network)
    half = max(1, context_words // 2)
    for first in range(0, max(1, len(words) - half), half):
        read = words[first : first + 2 * half]
        new = 0 if first == 0 else half
        states_WLD = _of_words(network, tokenizer, [word.text for word in read])
        for word, states_LD in zip(read[new:], states_WLD[new:], strict=True):
            tr = math.floor((word.seconds - start_seconds) / tr_seconds + TIME_SLACK)
            if 0 <= tr < n_trs:
                states_TLD[tr] += states_LD
    return states_TLD


def _of_words(network: LoadedNetwork, tokenizer: Any, words: list[str]) -> np.ndarray:
    """Return the mean over the tokens of each word, (words, L, D)."""
    import torch

    text = " ".join(words)
    cut = tokenizer(text, return_offsets_mapping=True)
    most = network.network.most_tokens
    if most is not None and len(cut["input_ids"]) > most:
        raise InputError(
            f"{network.network.model}: reads {most} tokens at a time, and {len(words)} words are "
            f"{len(cut['input_ids'])}: use fewer context_words"
        )
    states_LND = network.states({"input_ids": torch.tensor([cut["input_ids"]])})[:, 0]
    # A space belongs to the word that it leads in, as in most networks' tokens.
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    found = np.zeros((len(words), *states_LND.shape[::2]), np.float32)
    counts_W = np.zeros(len(words))
    for token, (start, stop) in enumerate(cut["offset_mapping"]):
        if stop > start:  # not a mark of the beginning or the end
            word = int(np.searchsorted(ends, stop - 1, side="right"))
            found[word] += states_LND[:, token]
            counts_W[word] += 1
    return found / np.maximum(counts_W, 1)[:, None, None]
