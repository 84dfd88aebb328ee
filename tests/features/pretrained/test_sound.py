"""Sound through networks, beside the library called by hand on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_networks
import torch

from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.pretrained.network import LoadedNetwork, find_network, import_library
from giblet_ray.features.pretrained.sound import sound_states

TR, N_TRS, FRAMES = 1.5, 4, 75
"""Frames of 20 ms in a TR."""


@pytest.fixture
def film(make_film: Callable[..., Path], burst: Callable[..., np.ndarray]) -> str:
    return str(make_film("film.mkv", 6.0, sound=burst(24_000, 6.0), sound_rate=24_000))


def states_by_hand(folder: Path, samples_N: np.ndarray) -> np.ndarray:
    """The last layer's frames, (F, D)."""
    library = import_library()
    model = library.AutoModel.from_pretrained(folder).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    listen = library.AutoFeatureExtractor.from_pretrained(folder)
    inputs = listen(samples_N, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(model(**inputs, output_hidden_states=True).hidden_states[-1][0])


@pytest.mark.parametrize("network", ["whisper", "wav2vec_bert"])
def test_frames_are_those_of_the_library_and_go_to_the_tr_of_their_time(
    film: str, network: str
) -> None:
    folder = getattr(small_networks, network)()
    found_TLD = sound_states(
        LoadedNetwork(find_network(str(folder)), "cpu"), film, N_TRS, TR, clip_seconds=30.0
    )
    states_FD = states_by_hand(folder, np.concatenate(list(read_audio(film, 16_000))))
    for tr in range(N_TRS):
        wanted_D = states_FD[tr * FRAMES : (tr + 1) * FRAMES].mean(0)
        np.testing.assert_allclose(found_TLD[tr, 0], wanted_D, atol=1e-5)
    assert np.abs(np.diff(found_TLD[:, 0], axis=0)).max() > 1e-3


def test_stretches_join_at_their_time(film: str) -> None:
    """Of 2 s each: the second TR has frames of the first two; the last stretch is whole."""
    network = LoadedNetwork(find_network(str(small_networks.wav2vec_bert())), "cpu")
    found_TLD = sound_states(network, film, N_TRS, TR, clip_seconds=2.0)
    samples_N = np.concatenate(list(read_audio(film, 16_000)))
    folder = small_networks.wav2vec_bert()
    stretches = samples_N.reshape(3, 32_000)
    frames_FD = np.concatenate([states_by_hand(folder, stretch_N) for stretch_N in stretches])
    # 2 s give 99 frames of 20 ms, for want of the last half of a window.
    times_F = np.concatenate([start + (np.arange(99) + 0.5) * 0.02 for start in (0, 2, 4)])
    assert len(frames_FD) == len(times_F)
    for tr in range(N_TRS):
        wanted_D = frames_FD[(times_F >= tr * TR) & (times_F < (tr + 1) * TR)].mean(0)
        np.testing.assert_allclose(found_TLD[tr, 0], wanted_D, atol=1e-5)


def test_a_silent_film_gives_what_the_network_makes_of_silence(
    make_film: Callable[..., Path],
) -> None:
    film = str(make_film("silent.mkv", 6.0, sound=np.zeros(144_000), sound_rate=24_000))
    network = LoadedNetwork(find_network(str(small_networks.whisper())), "cpu")
    found_TLD = sound_states(network, film, N_TRS, TR, clip_seconds=30.0)
    wanted_FD = states_by_hand(small_networks.whisper(), np.zeros(96_000, np.float32))
    np.testing.assert_allclose(found_TLD[2, 0], wanted_FD[150:225].mean(0), atol=1e-5)


def test_more_than_a_network_hears_at_a_time_is_one_line(make_film: Callable[..., Path]) -> None:
    film = str(make_film("long.mkv", 36.0, fps=1, sound=np.zeros(36 * 24_000), sound_rate=24_000))
    network = LoadedNetwork(find_network(str(small_networks.whisper())), "cpu")
    with pytest.raises(InputError, match=r"hears 30 s at a time; clip_seconds is 36$"):
        sound_states(network, film, 24, TR, clip_seconds=36.0)


@pytest.mark.parametrize("clip_seconds", [30.0, 10.0])
def test_a_network_whose_tokens_are_patches_or_that_cuts_is_refused(
    film: str, clip_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_library()
    # A torchaudio that is not of this torch cannot be imported; without one, the library has its
    # own way.
    for module in ("transformers.utils", "transformers.utils.import_utils"):
        monkeypatch.setattr(f"{module}.is_speech_available", lambda: False)
    network = LoadedNetwork(find_network(str(small_networks.of_spectrograms())), "cpu")
    with pytest.raises(InputError, match="gives no frames that follow"):
        sound_states(network, film, N_TRS, TR, clip_seconds)


def test_frames_of_no_whole_milliseconds_keep_their_time(film: str) -> None:
    """Of 600 samples, 37.5 ms: the third TR has those from 80 on."""
    folder = small_networks.of_coarse_sound(600)
    network = LoadedNetwork(find_network(str(folder)), "cpu")
    found_TLD = sound_states(network, film, N_TRS, TR, clip_seconds=30.0)
    states_FD = states_by_hand(folder, np.concatenate(list(read_audio(film, 16_000))))
    assert len(states_FD) == 160
    np.testing.assert_allclose(found_TLD[2, 0], states_FD[80:120].mean(0), atol=1e-5)
