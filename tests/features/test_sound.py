"""Level and spectrum of TRs."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.mel import mel_filterbank
from giblet_ray.features.sound import sound_per_tr

RATE = 24_000


@pytest.mark.parametrize("tone_hz", [420.0, 1500.0, 6000.0])
def test_a_tone_has_its_level_and_its_band(tone_hz):
    tone_N = 0.1 * np.sin(2 * np.pi * tone_hz * np.arange(3 * RATE) / RATE)
    sound_TD = sound_per_tr([tone_N.astype(np.float32)], 2, 1.5)
    assert sound_TD.shape == (2, 17)
    assert sound_TD.dtype == np.float32
    np.testing.assert_allclose(sound_TD[:, 0], -23.01, atol=0.01)  # 0.1^2 / 2
    bank_BQ = mel_filterbank(16, 2048, RATE).toarray()
    assert (
        sound_TD[:, 1:].argmax(axis=1) == bank_BQ[:, round(tone_hz * 2048 / RATE)].argmax()
    ).all()


def test_ten_times_the_amplitude_is_20_db_more_in_every_number():
    noise_N = np.random.default_rng(0).normal(0, 0.03, 3 * RATE).astype(np.float32)
    quiet_TD, loud_TD = (sound_per_tr([scale * noise_N], 2, 1.5) for scale in (1, 10))
    np.testing.assert_allclose(loud_TD - quiet_TD, 20, atol=1e-3)
    np.testing.assert_array_equal(sound_per_tr([0 * noise_N], 2, 1.5), -100)


def test_bands_are_the_mean_power_of_windows():
    noise_N = np.random.default_rng(1).normal(0, 0.1, RATE).astype(np.float32)
    window_N = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    powers = []
    for start in range(0, RATE - 2047, 1024):
        spectrum = np.fft.rfft(noise_N[start : start + 2048] * window_N) / window_N.sum()
        powers.append(np.abs(spectrum) ** 2)
    power_Q = np.mean(powers, axis=0)
    power_Q[1:-1] *= 2  # of negative frequencies
    wanted = 10 * np.log10(mel_filterbank(12, 2048, RATE).toarray() @ power_Q)
    found = sound_per_tr([noise_N], 1, 1.0, n_bands=12)[0, 1:]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_clicks_stay_in_their_tr_however_the_sound_is_cut():
    n_trs, tr_seconds = 200, 0.7003
    samples_N = np.zeros(round(n_trs * tr_seconds * RATE), np.float32)
    clicks = np.arange(0, n_trs, 7)
    for tr in clicks:  # at the TR's first sample and at its last
        samples_N[[round(tr * tr_seconds * RATE), round((tr + 1) * tr_seconds * RATE) - 1]] = 1
    whole_TD = sound_per_tr([samples_N], n_trs, tr_seconds, n_bands=3)
    level_T = whole_TD[:, 0]
    silent = np.setdiff1d(np.arange(n_trs), clicks)
    assert (level_T[silent] == -100).all()
    n = tr_seconds * RATE
    np.testing.assert_allclose(level_T[clicks], 10 * np.log10(2 / n), atol=0.01)
    pieces = np.split(samples_N, [5, 1000, 1001, 400_000])
    np.testing.assert_array_equal(sound_per_tr(pieces, n_trs, tr_seconds, n_bands=3), whole_TD)


def test_a_film_is_loud_when_its_burst_sounds(make_film, burst):
    film = make_film("film.mp4", 6.0, sound=burst(6.0, RATE))
    sound_TD = sound_per_tr(read_audio(film, RATE, duration_seconds=6.0), 12, 0.5)
    assert sound_TD[:, 0].argmax() == 6
    assert sound_TD[6, 0] == pytest.approx(-9.0, abs=0.3)  # 0.5^2 / 2
    assert np.delete(sound_TD[:, 0], 6).max() < -40


def test_sound_that_ends_too_early_is_refused():
    with pytest.raises(InputError, match=r"the audio has 71999 samples; at least 7200"):
        sound_per_tr([np.zeros(2 * 36_000 - 1, np.float32)], 2, 1.5)
