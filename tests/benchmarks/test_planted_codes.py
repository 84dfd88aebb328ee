"""The planted signal: what can read it from the codes, and that nothing less can."""

from __future__ import annotations

import numpy as np
import pytest
from planted_codes import CODEBOOKS, N_SOUNDS, SCALE, plant

N_TRS = 400
FIRST, SECOND = CODEBOOKS - 2, CODEBOOKS - 1


@pytest.fixture(scope="module")
def planted():
    return plant(N_TRS, 9, 0.9, seed=2)


def starts(codes_TF, sound):
    """The frame at which a sound begins in each TR, where it is heard once."""
    heard_TF = codes_TF == sound
    assert (heard_TF.sum(1) == heard_TF.sum(1)[0]).all()
    return heard_TF.argmax(1)


def test_which_codebook_hears_a_sound_first_is_the_order_and_lies_within_the_scale(planted):
    codes_TKF, order_TS, _ = planted
    assert codes_TKF.shape == (N_TRS, 8, 112)
    assert set(np.unique(order_TS)) == {-1, 1}
    for sound in range(1, N_SOUNDS + 1):
        lag_T = starts(codes_TKF[:, SECOND], sound) - starts(codes_TKF[:, FIRST], sound)
        np.testing.assert_array_equal(np.sign(lag_T), order_TS[:, sound - 1])
        length = (codes_TKF[0, FIRST] == sound).sum()
        assert set(np.abs(lag_T)) == {SCALE - length}


def test_no_narrow_window_holds_sounds_of_both_codebooks_nor_an_end_of_the_tr(planted):
    heard_TKF = planted[0][:, [FIRST, SECOND]] > 0
    width = SCALE // 2
    for start in range(heard_TKF.shape[-1] - width + 1):
        within_TK = heard_TKF[:, :, start : start + width].any(-1)
        assert not within_TK.all(1).any()
    assert not heard_TKF[:, :, : width + 1].any()
    assert not heard_TKF[:, :, -width:].any()


def test_beats_do_not_tell_the_time_within_a_tr(planted):
    for codebook in range(CODEBOOKS - 2):
        often_F = planted[0][:, codebook].mean(0)
        assert np.ptp(often_F) < 0.2


def test_what_is_no_pair_is_further_apart_than_one(planted):
    heard_TF = (planted[0][:, [FIRST, SECOND]] > 0).any(1)
    for heard_F in heard_TF:
        begins = np.flatnonzero(np.diff(heard_F.astype(int)) == 1) + 1
        ends = np.flatnonzero(np.diff(heard_F.astype(int)) == -1) + 1
        assert (begins[2::2] - ends[1:-1:2] >= SCALE).all()


def test_either_codebook_hears_each_sound_as_often_in_every_tr(planted):
    codes_TKF = planted[0][:, [FIRST, SECOND]]
    for sound in range(1, N_SOUNDS + 1):
        often_TK = (codes_TKF == sound).sum(-1)
        assert (often_TK == often_TK[0]).all()


def test_units_follow_one_sound_each_as_far_as_the_ceiling_says(planted):
    _, order_TS, bold_TV = planted
    # BOLD peaks some 5 s later.
    reached = np.abs(np.corrcoef(np.roll(order_TS, 4, axis=0).T, bold_TV.T)[:N_SOUNDS, N_SOUNDS:])
    assert (reached.argmax(0) == np.arange(9) % N_SOUNDS).all()
    others, own = np.sort(reached, axis=0)[-2:]
    assert own.min() > 0.7
    assert others.max() < 0.5
