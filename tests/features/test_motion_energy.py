"""Motion energy of gratings, of pictures that stand still, and of films in pieces."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.motion_energy import build_pyramid, channels, motion_energy_per_tr

HEIGHT, WIDTH, RATE = 36, 48, 24
ROWS_H1 = np.linspace(0, 1, HEIGHT)[:, None]
COLUMNS_1W = np.linspace(0, WIDTH / HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def pyramid():
    return build_pyramid(HEIGHT, WIDTH, RATE, octaves=3)


@pytest.fixture(scope="module")
def answers_to(pyramid):
    """Of each channel, what it answers to, by name: (D,)."""
    each = channels(pyramid)
    return {name: np.array([channel[name] for channel in each]) for name in each[0]}


def across(direction):
    """Distance of each pixel along a direction (picture heights): rows grow downwards."""
    angle = np.deg2rad(direction)
    return COLUMNS_1W * np.cos(angle) - ROWS_H1 * np.sin(angle)


def grating(direction, cycles, hz, n_pictures=RATE):
    """Grey waves that move: uint8 (N, 3, H, W)."""
    seconds_N11 = np.arange(n_pictures)[:, None, None] / RATE
    wave_NHW = np.cos(2 * np.pi * (cycles * across(direction) - hz * seconds_N11))
    return np.repeat((128 + 100 * wave_NHW).astype(np.uint8)[:, None], 3, axis=1)


def noise(n_pictures, seed=0):
    shape = (n_pictures, 3, HEIGHT, WIDTH)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("direction", [0, 90, 135, 180, 270])
@pytest.mark.parametrize(("cycles", "hz"), [(2, 2), (4, 4), (8, 2), (8, 4)])
def test_a_grating_is_answered_to_most_by_the_channels_of_its_motion(
    pyramid, answers_to, direction, cycles, hz
):
    ((energy_D),) = motion_energy_per_tr(grating(direction, cycles, hz), 1, 1.0, pyramid)
    kinds = np.stack([answers_to[name] for name in ("direction", "cycles_per_height", "hz")], 1)
    structured = answers_to["cycles_per_height"] > 0  # the others answer to light and flicker
    best = {tuple(kind): energy_D[(kinds == kind).all(1)].max() for kind in kinds[structured]}
    assert max(best, key=best.get) == (direction, cycles, hz)
    assert best[direction, cycles, hz] > best[(direction + 180) % 360, cycles, hz] + 1


def test_what_stands_still_moves_nothing_from_the_first_tr_to_the_last(pyramid, answers_to):
    still = np.repeat(noise(1), 3 * RATE, axis=0)
    still_TD = np.expm1(motion_energy_per_tr(still, 3, 1.0, pyramid))
    moving_TD = np.expm1(motion_energy_per_tr(noise(3 * RATE), 3, 1.0, pyramid))
    np.testing.assert_allclose(still_TD[[0, 2]], still_TD[[1, 1]], rtol=1e-4)
    structured = answers_to["cycles_per_height"] > 0
    moved, form = (structured & (answers_to["hz"] > 0)), (structured & (answers_to["hz"] == 0))
    assert still_TD[:, moved].mean() < 0.06 * still_TD[:, form].mean()
    assert moving_TD[:, moved].mean() > 0.5 * moving_TD[:, form].mean()
    black_TD = motion_energy_per_tr(np.zeros_like(still), 3, 1.0, pyramid)
    np.testing.assert_array_equal(black_TD, 0)


def test_a_channel_is_a_wave_under_a_window_that_moves_as_is_said(pyramid, answers_to):
    pictures = noise(RATE)
    grey_NHW = np.repeat(pictures[:, :1], 3, axis=1)
    found_TD = motion_energy_per_tr(grey_NHW, 1, 1.0, pyramid)
    level = pictures[:, 0] / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    lightness_NHW = np.where(linear > 216 / 24389, 116 * np.cbrt(linear) - 16, linear * 24389 / 27)
    padded_NHW = np.concatenate([lightness_NHW[:1].repeat(8, 0), lightness_NHW])
    padded_NHW = np.concatenate([padded_NHW, lightness_NHW[-1:].repeat(8, 0)])
    for channel in np.random.default_rng(1).choice(pyramid.nfilters, 12, replace=False):
        row, column, direction, cycles, hz = (answers_to[name][channel] for name in answers_to)
        spread = pyramid.filters[channel]["spatial_env"]
        from_row, from_column = ROWS_H1 - row, COLUMNS_1W - column * WIDTH / HEIGHT
        angle = np.deg2rad(direction)
        waves_HW = cycles * (from_column * np.cos(angle) - from_row * np.sin(angle))
        window_HW = np.exp(-(from_column**2 + from_row**2) / (2 * spread**2))
        # Sixteen pictures, the window's middle one before the picture that is answered for.
        steps = np.arange(-8, 8)
        in_time = np.exp(-(((steps + 1) / 16) ** 2) / (2 * 0.3**2))
        in_time = in_time * np.exp(-2j * np.pi * hz * (steps + 1) / RATE)
        answers_N = np.einsum("nhw,hw->n", padded_NHW, window_HW * np.exp(2j * np.pi * waves_HW))
        energy_N = [abs(in_time @ answers_N[n + 8 + steps]) for n in range(RATE)]
        assert found_TD[0, channel] == pytest.approx(np.log1p(energy_N).mean(), abs=0.02)


@pytest.mark.parametrize("tr_seconds", [1.0, 0.7003])
def test_a_film_in_pieces_gives_what_the_whole_gives_by_the_time_of_its_pictures(
    tr_seconds,
):
    n_trs = 4
    pyramid = build_pyramid(HEIGHT, WIDTH, RATE, octaves=1)
    pictures = noise(round(n_trs * tr_seconds * RATE))
    whole_TD = motion_energy_per_tr(pictures, n_trs, tr_seconds, pyramid)
    for piece in (1, 25, len(pictures)):
        pieces_TD = motion_energy_per_tr(iter(pictures), n_trs, tr_seconds, pyramid, piece)
        np.testing.assert_allclose(pieces_TD, whole_TD, rtol=1e-5)
    # One TR of all pictures is the mean of those TRs, each as long as it has pictures.
    tr_N = np.floor((np.arange(len(pictures)) + 0.5) / RATE / tr_seconds).astype(int)
    mean_D = np.average(whole_TD, axis=0, weights=np.bincount(tr_N))
    (all_D,) = motion_energy_per_tr(pictures, 1, n_trs * tr_seconds, pyramid)
    np.testing.assert_allclose(all_D, mean_D, rtol=1e-5)


def test_what_cannot_be_made_is_said_in_one_line(pyramid, monkeypatch):
    with pytest.raises(InputError, match=r"^TR 1 of 2 has no picture$"):
        motion_energy_per_tr(noise(RATE), 2, 1.0, pyramid)
    with pytest.raises(InputError, match=r"^.*needs pictures of 48 rows or more, not 36[^\n]*$"):
        build_pyramid(HEIGHT, WIDTH, RATE, octaves=4)
    monkeypatch.setitem(sys.modules, "moten.pyramids", None)
    with pytest.raises(InputError, match=r"^[^\n]*pip install 'giblet_ray\[motion\]'$"):
        build_pyramid(HEIGHT, WIDTH, RATE, octaves=2)
