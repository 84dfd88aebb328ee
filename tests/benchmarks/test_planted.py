"""The planted signal: who can read it from the film's codes, and that nobody else can."""

from __future__ import annotations

import hashlib

import nibabel
import numpy as np
import pytest
from planted import TONES_HZ, Planted, draw_gates, draw_sound, measure_tones, order_of_tones
from planted_film import make_planted

from giblet_ray.demo.scans import convolve_features
from giblet_ray.demo.script import Scene
from giblet_ray.demo.sound import CHANNEL_GAINS
from giblet_ray.errors import InputError
from giblet_ray.features.audio import read_audio
from giblet_ray.features.codec import load_codec

N_TRS, TR_SECONDS = 14, 1.0
SCENES = [Scene(0, 11.3, 0), Scene(11.3, 24, 1)]
SETTINGS = [Planted(), Planted(2, 9), Planted(8, 21), Planted(5, 31)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_planted(
        tmp_path_factory.mktemp("planted"),
        Planted(),
        n_trs=N_TRS,
        tr_seconds=TR_SECONDS,
        n_voxels=9,
        seed=7,  # its second scene starts after 9.4 s, in time for this short film
    )


@pytest.fixture(scope="module")
def codes_KT(demo):  # noqa: N802
    """The codes of the film, by the codec that was made with it."""
    blocks = read_audio(demo.film, 24_000, duration_seconds=N_TRS * TR_SECONDS)
    return load_codec(str(demo.codec)).encode(blocks, 8)


def gates_of(planted, seed=0, seconds=24):
    return draw_gates(SCENES, seconds * 75, planted, np.random.default_rng(seed))


def onsets(gate_T):
    return np.flatnonzero(np.diff(np.concatenate([[0], gate_T.astype(int)])) == 1)


@pytest.mark.parametrize("planted", SETTINGS)
def test_no_narrow_window_holds_both_tones_of_a_pair(planted):
    gates_ST = gates_of(planted)
    width = planted.scale_frames // 2
    for scene in SCENES:
        span = slice(round(scene.start_seconds * 75), round(scene.end_seconds * 75))
        for start in range(span.start, span.stop - width):
            window_ST = gates_ST[:, start : start + width]
            assert not all(window_ST[tone].any() for tone in planted.carriers)


@pytest.mark.parametrize("planted", SETTINGS)
def test_windows_of_the_scale_show_the_order_of_their_scene_alone(planted):
    first, second = planted.carriers
    gates_ST = gates_of(planted)
    for scene, sign in zip(SCENES, (1, -1), strict=True):
        scene_ST = gates_ST[:, round(scene.start_seconds * 75) : round(scene.end_seconds * 75)]
        lags = np.subtract.outer(onsets(scene_ST[second]), onsets(scene_ST[first])).ravel()
        near = lags[np.abs(lags) <= planted.scale_frames]
        assert len(near) >= 4
        assert set(near) == {sign * (planted.scale_frames - planted.tone_frames)}


def test_each_tone_sounds_as_often_in_scenes_of_either_order():
    scenes = [Scene(12.0 * number, 12.0 * (number + 1), number % 2) for number in range(40)]
    gates_ST = draw_gates(scenes, 40 * 900, Planted(), np.random.default_rng(1))
    share_S2 = gates_ST.reshape(len(TONES_HZ), 20, 2, 900).mean(axis=(1, 3))
    np.testing.assert_allclose(share_S2[:, 0], share_S2[:, 1], rtol=0.08)


@pytest.mark.parametrize("planted", SETTINGS)
def test_feature_tells_the_order_from_the_carriers_and_no_other_tone(planted):
    n_trs, tr_seconds = 12, 2.0
    tones_ST = gates_of(planted).astype(float)
    order_R = order_of_tones(tones_ST, planted, n_trs, tr_seconds)
    assert order_R.shape == (n_trs,)
    np.testing.assert_allclose(order_R[:5], 1)
    np.testing.assert_allclose(order_R[6:], -1)
    others = sorted(set(range(len(TONES_HZ))) - set(planted.carriers))
    tones_ST[others] = np.random.default_rng(0).random((len(others), tones_ST.shape[1]))
    np.testing.assert_array_equal(order_of_tones(tones_ST, planted, n_trs, tr_seconds), order_R)
    tones_ST[list(planted.carriers)] = tones_ST[list(planted.carriers)[::-1]]
    np.testing.assert_array_equal(order_of_tones(tones_ST, planted, n_trs, tr_seconds), -order_R)
    tones_ST[planted.carriers[1]] = 0
    assert not order_of_tones(tones_ST, planted, n_trs, tr_seconds).any()


def test_sound_is_the_tones_at_their_times_in_blocks_of_ragged_ends():
    gates_ST = np.zeros((len(TONES_HZ), 90), dtype=bool)
    gates_ST[3, 10:20] = True
    blocks = list(draw_sound(gates_ST, 52_911, np.random.default_rng(0)))
    assert [block.shape for block in blocks] == [(2, 44_100), (2, 8_811)]
    left_N, right_N = np.concatenate(blocks, axis=1)
    assert 0.09 < np.abs(left_N).max() < 0.12
    spectrum = np.abs(np.fft.rfft(left_N[12 * 588 : 20 * 588]))
    assert np.argmax(spectrum) == TONES_HZ[3] * 8 // 75
    assert np.abs(left_N[21 * 588 :]).max() < 0.02
    np.testing.assert_allclose(right_N, left_N * CHANNEL_GAINS[1, 0], atol=1e-6)


def test_each_codebook_hears_its_own_tone(demo, codes_KT):
    assert codes_KT.shape == (8, N_TRS * 75)
    assert set(np.unique(codes_KT)) == {0, 1}
    tones_ST = measure_tones(demo.film, N_TRS * 75)
    # The encoder tells what it heard two frames ago.
    r_KS = np.corrcoef(codes_KT[:, 2:], tones_ST[:, :-2])[:8, 8:]
    assert np.diag(r_KS).min() > 0.8
    assert np.abs(r_KS - np.diag(np.diag(r_KS))).max() < 0.35


def test_order_that_bold_follows_is_in_the_codes_of_those_codebooks(demo, codes_KT):
    tones_ST = measure_tones(demo.film, N_TRS * 75)
    order_R = order_of_tones(tones_ST, Planted(), N_TRS, TR_SECONDS)
    assert np.abs(order_R).max() == pytest.approx(1, abs=0.1)
    heard_KT = np.roll(codes_KT, -2, axis=1).astype(float)
    read_R = order_of_tones(heard_KT, Planted(), N_TRS, TR_SECONDS)
    assert np.corrcoef(read_R, order_R)[0, 1] > 0.9


def test_all_voxels_follow_the_planted_order_as_far_as_the_ceiling_says(demo):
    order_R = order_of_tones(measure_tones(demo.film, N_TRS * 75), Planted(), N_TRS, TR_SECONDS)
    signal_R = convolve_features(order_R[:, None], TR_SECONDS)[:, 0]
    bold_RV = nibabel.load(demo.scan).get_fdata()[nibabel.load(demo.mask).get_fdata() > 0].T
    r_V = np.abs([np.corrcoef(signal_R, bold_R)[0, 1] for bold_R in bold_RV.T])
    assert r_V.shape == (9,)
    assert r_V.mean() == pytest.approx(0.65, abs=0.15)
    assert r_V.min() > 0.2


def test_same_settings_give_the_same_bytes_and_others_another_film(tmp_path):
    def make(name, scale_frames):
        planted = Planted(scale_frames=scale_frames)
        make_planted(tmp_path / name, planted, n_trs=2, tr_seconds=1.0, n_voxels=5)
        files = sorted((tmp_path / name).iterdir())
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first, again, other = make("first", 15), make("again", 15), make("other", 13)
    assert "codec.safetensors" in first
    assert first == again
    assert first["film.mp4"] != other["film.mp4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codebooks": 1}, "codebooks: found 1; 2 to 8"),
        ({"codebooks": 9}, "codebooks: found 9; 2 to 8"),
        ({"scale_frames": 14}, "scale_frames: found 14; an odd number from 9 to 31"),
        ({"scale_frames": 7}, "scale_frames: found 7;"),
        ({"scale_frames": 33}, "scale_frames: found 33;"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Planted(**settings)


def test_trs_that_are_too_short_for_a_pair_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"tr_seconds: 0.9 is too short .* 15 frames; at least"):
        make_planted(tmp_path / "film", Planted(), n_trs=4, tr_seconds=0.9, n_voxels=5)
    assert not (tmp_path / "film").exists()
