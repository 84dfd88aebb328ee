"""Codebooks by bandwidth, and code frames by TR."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.features.codes import (
    codebooks_of_bandwidth,
    cut_codes,
    frames_per_tr,
    resolve_codebooks,
)


def numbered_codes(n_frames: int, n_codebooks: int = 2) -> np.ndarray:
    """Codes that tell their own frame: frame number modulo 1024, and its quotient."""
    frames = np.arange(n_frames)
    return np.stack([frames % 1024, frames // 1024] * (n_codebooks // 2)).astype(np.int16)


def frame_numbers(codes_RKF: np.ndarray) -> np.ndarray:
    return codes_RKF[:, 0].astype(int) + 1024 * codes_RKF[:, 1].astype(int)


def test_each_bandwidth_has_its_codebooks():
    table = {1.5: 2, 3: 4, 6: 8, 12: 16, 24: 32}
    assert {kbps: codebooks_of_bandwidth(kbps) for kbps in table} == table
    assert [resolve_codebooks(kbps, None) for kbps in table] == list(table.values())
    assert [resolve_codebooks(None, k) for k in table.values()] == list(table.values())
    assert resolve_codebooks(None, None) == 8
    assert resolve_codebooks(6.0, 8) == 8


@pytest.mark.parametrize(
    ("bandwidth", "codebooks", "message"),
    [
        (3.0, 8, r"3 kbps holds 4 codebooks and codebooks asks for 8, which take 6 kbps"),
        (5.0, None, r"bandwidth is 5 kbps; .* 1.5 kbps \(2\), 3 kbps \(4\)"),
        (None, 5, r"codebooks is 5; .* 6 kbps \(8\)"),
        (5.0, 8, r"bandwidth is 5 kbps"),
    ],
)
def test_contradictions_and_unknown_bandwidths_are_refused(bandwidth, codebooks, message):
    with pytest.raises(InputError, match=message):
        resolve_codebooks(bandwidth, codebooks)


def test_two_thousand_trs_are_cut_without_drift():
    n_trs, tr_seconds = 2000, 1.5
    codes_RKF = cut_codes(numbered_codes(225_000), n_trs, tr_seconds)
    assert codes_RKF.shape == (2000, 2, 112)
    assert codes_RKF.dtype == np.int16
    frames_RF = frame_numbers(codes_RKF)
    assert (frames_RF[:, 0] == [round(i * 112.5) for i in range(n_trs)]).all()
    assert (np.diff(frames_RF, axis=1) == 1).all()
    start_errors_frames = frames_RF[:, 0] - 75 * tr_seconds * np.arange(n_trs)
    assert np.abs(start_errors_frames).max() <= 0.5
    assert frames_RF[-1, -1] == 224_999


@given(
    tr_milliseconds=st.integers(300, 4000),
    n_trs=st.integers(1, 50),
)
def test_the_frames_of_the_film_always_suffice_and_never_overlap(tr_milliseconds, n_trs):
    tr_seconds = tr_milliseconds / 1000
    n_samples = n_trs * tr_milliseconds * 24
    codes_RKF = cut_codes(numbered_codes(-(-n_samples // 320)), n_trs, tr_seconds)
    assert codes_RKF.shape[2] == 75 * tr_milliseconds // 1000 == frames_per_tr(tr_seconds)
    frames_RF = frame_numbers(codes_RKF)
    exact_starts = np.arange(n_trs) * 75 * tr_milliseconds / 1000
    assert np.abs(frames_RF[:, 0] - exact_starts).max() <= 0.5
    gaps = frames_RF[1:, 0] - frames_RF[:-1, -1]
    assert n_trs == 1 or (gaps.min() >= 0 and gaps.max() <= 2)


def test_frames_per_tr_are_counted_in_decimal_seconds():
    # 75 * 0.72 is 54 on paper and 53.99999999999999 in doubles.
    assert frames_per_tr(0.72) == 54
    assert frames_per_tr(1.5) == 112
    assert frames_per_tr(2.0) == 150


def test_too_few_frames_and_too_short_trs_are_refused():
    with pytest.raises(InputError, match=r"449 code frames; 4 TRs of 1.5 s need 450"):
        cut_codes(numbered_codes(449), 4, 1.5)
    with pytest.raises(InputError, match=r"tr_seconds is 0.01"):
        cut_codes(numbered_codes(449), 4, 0.01)
