"""Pictures and clips through networks, beside the library called by hand on the same pictures."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import small_networks
import torch

from giblet_ray.errors import InputError
from giblet_ray.features.pretrained.network import LoadedNetwork, find_network, import_library
from giblet_ray.features.pretrained.pictures import (
    clip_states,
    moments_per_tr,
    picture_states,
    read_preparation,
)
from giblet_ray.features.video import frames_on_screen

TR, N_TRS = 1.5, 4


@pytest.fixture
def film(make_film: Callable[..., Path]) -> str:
    """Six seconds, each tenth of a second another grey, 64 x 48."""
    return str(make_film("film.mp4", 6.0, fps=10))


def load(folder: Path, *layers: int) -> LoadedNetwork:
    network = LoadedNetwork(find_network(str(folder)), "cpu")
    network.layers = layers
    return network


def seen(film: str, piece: Fraction, height: int, width: int) -> np.ndarray:
    """The film's pictures at the middle of each piece, scaled, as (N, C, H, W)."""
    return np.stack(list(frames_on_screen(film, N_TRS, TR, piece, height, width)))


def test_pictures_are_cut_and_normalised_as_the_library_does() -> None:
    prepare = import_library().AutoImageProcessor.from_pretrained(
        small_networks.of_images(), backend="pil"
    )
    picture_CHW = np.random.default_rng(0).integers(0, 256, (3, 28, 41), np.uint8)
    wanted = prepare(picture_CHW.transpose(1, 2, 0), return_tensors="np")["pixel_values"][0]
    preparation = read_preparation(load(small_networks.of_images(), 4))
    found = preparation.normalise(preparation.cut(picture_CHW))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert preparation.scaled(480, 640) == (28, 37)
    assert preparation.scaled(640, 480) == (37, 28)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_layers_of_pictures_are_those_of_the_library(film: str, pooling: str) -> None:
    found_TLD = picture_states(
        load(small_networks.of_images(), 2, 4), film, N_TRS, TR, 2.0, pooling, batch=5
    )
    pictures = seen(film, Fraction(1, 2), 28, 37)[..., 4:32]
    model = import_library().AutoModel.from_pretrained(small_networks.of_images()).eval()
    mean, std = (np.array(each)[:, None, None] for each in (
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ))  # fmt: skip
    given = torch.from_numpy(((pictures / 255 - mean) / std).astype(np.float32))
    with torch.inference_mode():
        states = model(given, output_hidden_states=True).hidden_states
    wanted_NLD = np.stack(
        [states[layer].mean(1) if pooling == "mean" else states[layer][:, 0] for layer in (2, 4)],
        axis=1,
    )
    assert found_TLD.shape == (N_TRS, 2, 32)
    np.testing.assert_allclose(found_TLD, wanted_NLD.reshape(N_TRS, 3, 2, 32).mean(1), atol=1e-5)


def test_clips_end_in_the_tr_and_begin_with_the_films_first_picture(film: str) -> None:
    """Two clips of a second in a TR, of four pictures each: a quarter of a second apart."""
    network = load(small_networks.of_clips(), 1, 4)
    found_TLD = clip_states(network, film, N_TRS, TR, 4 / 3, 1.0, 4, "mean", batch=3)
    pictures = seen(film, Fraction(1, 4), 36, 48)[..., 2:34, 8:40]
    model = import_library().AutoModel.from_pretrained(small_networks.of_clips()).eval()
    mean, std = (np.array(each)[:, None, None] for each in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ))  # fmt: skip
    shades = ((pictures / 255 - mean) / std).astype(np.float32)
    for tr in range(N_TRS):
        wanted_LD = np.zeros((2, 32))
        for moment in (1, 2):
            stop = int((tr * TR + moment * TR / 2) / 0.25)
            clip = [shades[max(0, index)] for index in range(stop - 4, stop)]
            given = torch.from_numpy(np.stack(clip))[None]
            with torch.inference_mode():
                states = model(given, skip_predictor=True, output_hidden_states=True).hidden_states
            wanted_LD += np.stack([states[layer][0].mean(0) for layer in (1, 4)]) / 2
        np.testing.assert_allclose(found_TLD[tr], wanted_LD, atol=1e-5)


def test_a_film_that_is_seen_from_its_second_tr_on_gives_the_other_rows(film: str) -> None:
    still, clips = load(small_networks.of_images(), 4), load(small_networks.of_clips(), 4)
    how = {"pooling": "mean", "batch": 4}
    whole_TLD = picture_states(still, film, N_TRS, TR, 2.0, **how)
    rest_TLD = picture_states(still, film, N_TRS - 1, TR, 2.0, **how, start_seconds=TR)
    np.testing.assert_allclose(rest_TLD, whole_TLD[1:], atol=1e-5)
    whole_TLD = clip_states(clips, film, N_TRS, TR, 2.0, 1.0, 4, **how)
    rest_TLD = clip_states(clips, film, N_TRS - 1, TR, 2.0, 1.0, 4, **how, start_seconds=TR)
    np.testing.assert_allclose(rest_TLD, whole_TLD[1:], atol=1e-5)


def test_every_tr_has_a_moment() -> None:
    assert [moments_per_tr(tr, 2.0) for tr in (0.2, 0.72, 1.0, 1.49, 2.0)] == [1, 1, 2, 3, 4]


def test_a_network_that_does_not_say_how_big_its_pictures_are_is_one_line() -> None:
    network = load(small_networks.of_images(), 4)
    settings = {"size": {"longest_edge": 28}, "do_center_crop": False}
    network.settings_file = lambda *names: settings  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"does not say which size its pictures have$"):
        read_preparation(network)
