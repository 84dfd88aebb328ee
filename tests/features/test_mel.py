"""Mel spectrograms per TR."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.features.mel import fft_size, mel_filterbank, mel_per_tr

RATE = 24_000


def slaney_centres_hz(n_mels: int, rate: int) -> np.ndarray:
    """Centres of the bands by inverting Slaney's scale numerically."""
    hz = np.linspace(0, rate / 2, 500_001)
    log_part = 15 + 27 * np.log(np.maximum(hz, 1e-9) / 1000) / np.log(6.4)
    mels = np.where(hz < 1000, 3 * hz / 200, log_part)
    return np.interp(np.linspace(0, mels[-1], n_mels + 2)[1:-1], mels, hz)


def test_no_band_is_empty_and_each_sums_to_one():
    n_fft = fft_size(2048, RATE)
    assert n_fft == 16_384
    bank = mel_filterbank(2048, n_fft, RATE)
    assert bank.shape == (2048, 8193)
    np.testing.assert_allclose(bank.sum(axis=1), 1, rtol=1e-5)
    assert bank.toarray().min() >= 0


def test_bands_are_the_triangles_of_the_definition():
    n_mels, n_fft = 40, 2048
    hz = np.arange(n_fft // 2 + 1) * RATE / n_fft
    centres = np.array([0, *slaney_centres_hz(n_mels, RATE), RATE / 2])
    bank = mel_filterbank(n_mels, n_fft, RATE).toarray()
    for m in range(n_mels):
        triangle = np.interp(hz, centres[m : m + 3], [0, 1, 0])
        np.testing.assert_allclose(bank[m], triangle / triangle.sum(), atol=1e-4)


@pytest.mark.parametrize(("tone_hz", "atol"), [(150.0, 0.05), (1000.0, 0.05), (7000.0, 0.25)])
def test_a_tone_peaks_in_its_band_at_its_level(tone_hz, atol):
    samples_N = np.sin(2 * np.pi * tone_hz * np.arange(3 * RATE) / RATE).astype(np.float32)
    mel_RMF = mel_per_tr([samples_N], 2, 1.5)
    assert mel_RMF.shape == (2, 2048, 65)
    assert mel_RMF.dtype == np.float16
    inner_MF = mel_RMF[0, :, 10:55].astype(float)
    peak_hz = slaney_centres_hz(2048, RATE)[inner_MF.argmax(axis=0)]
    np.testing.assert_allclose(peak_hz, tone_hz, rtol=0.02)
    np.testing.assert_allclose(inner_MF.max(axis=0), np.log(0.25), atol=atol)


def test_clicks_stay_at_their_place_over_many_trs():
    n_trs, tr_seconds, n_frames = 300, 0.7, 13
    n_samples = round(n_trs * tr_seconds * RATE)
    samples_N = np.zeros(n_samples, np.float32)
    clicks = np.arange(2, n_trs, 7)
    # One click per seventh TR, in the middle of its fifth frame.
    samples_N[[round((i + 4.5 / n_frames) * tr_seconds * RATE) for i in clicks]] = 1
    mel_RMF = mel_per_tr([samples_N], n_trs, tr_seconds, n_mels=20, frames_per_tr=n_frames)
    level_RF = mel_RMF.astype(float).mean(axis=1)
    assert (level_RF[clicks].argmax(axis=1) == 4).all()
    silent = np.setdiff1d(np.arange(n_trs), clicks)
    np.testing.assert_allclose(level_RF[silent], np.log(1e-10), atol=0.02)


def test_values_equal_those_of_the_definition_and_the_cut_of_blocks_does_not_matter():
    rng = np.random.default_rng(0)
    samples_N = rng.standard_normal(round(3.3 * RATE)).astype(np.float32)
    whole_RMF = mel_per_tr([samples_N], 3, 1.1, n_mels=30, frames_per_tr=7)
    blocks = np.split(samples_N, [5, 1000, 1001, 40_000])
    cut_RMF = mel_per_tr(iter(blocks), 3, 1.1, n_mels=30, frames_per_tr=7)
    np.testing.assert_array_equal(cut_RMF, whole_RMF)
    n_fft = fft_size(30, RATE)
    window_N = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    bank = mel_filterbank(30, n_fft, RATE).toarray()
    padded_N = np.pad(samples_N, 4096)
    for i, j in [(0, 0), (0, 6), (1, 3), (2, 6)]:
        centre = int((i + (j + 0.5) / 7) * 1.1 * RATE) + 4096
        spectrum = np.fft.rfft(padded_N[centre - 1024 : centre + 1024] * window_N, n_fft)
        expected_M = np.log(bank @ np.abs(spectrum / window_N.sum()) ** 2)
        np.testing.assert_allclose(whole_RMF[i, :, j], expected_M, atol=0.02)


def test_sound_that_ends_too_early_is_refused():
    with pytest.raises(InputError, match=r"the audio has 71999 samples; at least 72000"):
        mel_per_tr([np.zeros(2 * 36_000 - 1, np.float32)], 2, 1.5)
