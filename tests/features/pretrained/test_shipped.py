"""Whisper tiny.en as it was published, through the same code as any network from the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shipped_whisper import shipped_whisper

from giblet_ray.features.audio import read_audio
from giblet_ray.features.pretrained.network import LoadedNetwork, find_network, import_library
from giblet_ray.features.pretrained.sound import sound_states

pytestmark = pytest.mark.slow  # loads 38 million weights

TR, N_TRS, FRAMES, RATE = 1.5, 4, 75, 16_000
START, NO_SPEECH = 50_257, 50_361
"""Tokens of the English Whispers."""


def test_its_layers_are_those_that_the_library_gives(
    make_film: Callable[..., Path], burst: Callable[..., np.ndarray]
) -> None:
    film = str(make_film("film.mkv", 6.0, sound=burst(24_000, 6.0), sound_rate=24_000))
    found = find_network(str(shipped_whisper()))
    assert (found.reads, found.n_layers, found.n_numbers) == ("sound", 4, 384)
    network = LoadedNetwork(found, "cpu")
    network.layers = (2, 4)
    states_TLD = sound_states(network, film, N_TRS, TR, clip_seconds=30.0)

    library = import_library()
    listen = library.WhisperFeatureExtractor.from_pretrained(shipped_whisper())
    samples_N = np.concatenate(list(read_audio(film, RATE)))
    inputs = listen(samples_N, sampling_rate=RATE, return_tensors="pt")
    model = library.WhisperModel.from_pretrained(shipped_whisper()).eval().get_encoder()
    with torch.inference_mode():
        layers = model(**inputs, output_hidden_states=True).hidden_states
    for index, layer in enumerate((2, 4)):
        wanted_FD = layers[layer][0, : N_TRS * FRAMES].numpy()
        wanted_TD = wanted_FD.reshape(N_TRS, FRAMES, -1).mean(1)
        np.testing.assert_allclose(states_TLD[:, index], wanted_TD, atol=1e-4)


def test_it_was_trained_it_knows_that_nobody_speaks_in_silence() -> None:
    library = import_library()
    model = library.WhisperForConditionalGeneration.from_pretrained(shipped_whisper()).eval()
    listen = library.WhisperFeatureExtractor.from_pretrained(shipped_whisper())
    inputs = listen(np.zeros(10 * RATE, np.float32), sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**inputs, decoder_input_ids=torch.tensor([[START]])).logits[0, -1]
    assert logits.softmax(-1)[NO_SPEECH] > 0.8
