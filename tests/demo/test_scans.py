"""The simulated scans: their form, their noise ceiling, and that they are made once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import av
import nibabel
import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf

from giblet_ray.demo import DemoSettings, make_demo, scans
from giblet_ray.demo.measure import FEATURES
from giblet_ray.errors import InputError

N_TRS, N_VOXELS = 24, 37

# TRs 0, 11 and 23 of voxels 0, 18 and 36 of the three subjects, as the first demo had them.
FIRST_DEMO = (
    [[1210.35, 1134.154, 975.765], [1191.796, 1119.431, 955.289], [1204.166, 1148.851, 994.113]],
    [[1147.889, 1159.714, 1024.145], [1109.422, 1165.97, 989.249], [1165.268, 1182.972, 981.796]],
    [[1042.287, 1004.583, 970.433], [1038.938, 991.11, 956.763], [1075.844, 1002.297, 961.08]],
)


SETTINGS = DemoSettings(n_trs=N_TRS, n_voxels=N_VOXELS, n_subjects=3, seed=5)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "not" / "there"
    stages = []
    files = make_demo(folder, SETTINGS, lambda stage, done: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["film", "features", "scans"]
    return files


@pytest.fixture
def features_TF():  # noqa: N802
    """Features that vary slowly, as a film's do."""
    rng = np.random.default_rng(0)
    return np.repeat(rng.standard_normal((250, len(FEATURES))), 8, axis=0)


def respond(features_TF, seed=0, **changes):
    settings = {"n_voxels": 50, "ceiling": 0.6, "feature_weights": {}} | changes
    rng = np.random.default_rng(seed)
    weights_FV = scans.draw_weights(settings["n_voxels"], settings["feature_weights"], rng)
    signal_TV = scans.convolve_features(features_TF, 1.5) @ weights_FV
    return scans.respond(signal_TV, settings["ceiling"], rng)


def checksums(files):
    paths = sorted(files.film.parent.iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_scans_and_mask_are_nifti_on_one_grid_with_the_tr(demo):
    mask = nibabel.load(demo.mask)
    assert mask.get_fdata().sum() == N_VOXELS
    assert [path.name[:6] for path in demo.scans] == ["sub-01", "sub-02", "sub-03"]
    for path in demo.scans:
        scan = nibabel.load(path)
        assert scan.shape == (*mask.shape, N_TRS)
        assert scan.header.get_zooms()[3] == pytest.approx(demo.tr_seconds)
        assert scan.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_array_equal(scan.affine, mask.affine)
        bold_VT = scan.get_fdata()[mask.get_fdata() > 0]
        assert np.isfinite(bold_VT).all()
        assert 850 < bold_VT.mean() < 1250
        assert 0.005 < np.mean(bold_VT.std(1) / bold_VT.mean(1)) < 0.05


def test_with_nothing_added_film_and_scans_are_those_of_the_first_demo(demo):
    """What was measured on it, as by benchmarks/ridge_reference.py, can be measured again."""
    pictures = hashlib.sha256()
    with av.open(str(demo.film)) as container:
        for frame in container.decode(video=0):
            pictures.update(frame.to_ndarray(format="gray").tobytes())
    assert pictures.hexdigest().startswith("65197973e6530a7b8995270d")
    said = hashlib.sha256(demo.subtitles.read_bytes()).hexdigest()
    assert said.startswith("8e0938f028ae1e79da28382a")
    inside = nibabel.load(demo.mask).get_fdata() > 0
    for path, expected in zip(demo.scans, FIRST_DEMO, strict=True):
        bold_TV = nibabel.load(path).get_fdata()[inside].T
        # To the last decimal but one of float32: sums are rounded by the processor.
        found = bold_TV[np.ix_([0, 11, 23], [0, 18, 36])]
        np.testing.assert_allclose(found, expected, rtol=0, atol=0.0015)
    assert not [name for name in np.load(demo.truth) if name.startswith("drift")]


def test_ceiling_is_written_beside_the_scans(demo):
    ceiling = json.loads(demo.ceiling.read_text())
    ceiling_V = np.load(demo.ceiling_voxels)
    assert ceiling_V.shape == (N_VOXELS,)
    assert ceiling["mean"] == pytest.approx(0.65) == pytest.approx(ceiling_V.mean())
    assert set(ceiling["mean_r_of_signal_and_scan"]) == {"sub-01", "sub-02", "sub-03"}
    assert demo.ceiling_in_words() == "0.6500, known"
    assert ceiling["per_voxel"] == demo.ceiling_voxels.name
    features = np.genfromtxt(demo.features, names=True, delimiter="\t")
    assert features.dtype.names == FEATURES
    assert len(features) == N_TRS


def test_same_settings_give_the_same_bytes(demo, tmp_path):
    again = make_demo(tmp_path, SETTINGS)
    assert checksums(again) == checksums(demo)


def test_finished_demo_is_left_as_it_is_and_a_damaged_or_other_one_made_anew(tmp_path):
    settings = DemoSettings(n_trs=3, n_voxels=5, n_subjects=1)
    (tmp_path / "notes.txt").write_text("mine")
    stages = []

    def make(**changes):
        stages.clear()
        return make_demo(tmp_path, replace(settings, **changes), lambda *at: stages.append(at))

    files = make()
    before = checksums(files)
    assert stages
    assert make() == files
    assert not stages
    files.scans[0].write_bytes(files.scans[0].read_bytes()[:-9])
    make()
    assert stages
    assert checksums(files) == before
    make(seed=1)
    assert stages
    assert checksums(files)["demo-film.srt"] != before["demo-film.srt"]
    assert checksums(files)["notes.txt"] == before["notes.txt"]


def test_a_demo_may_lie_in_a_relative_folder_of_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = make_demo("day:1", DemoSettings(n_trs=2, n_voxels=5, n_subjects=1))
    assert files.film.samefile(tmp_path / "day:1/demo-film.mp4")


def test_interrupted_making_leaves_nothing_that_counts_as_a_demo(tmp_path):
    def interrupt(stage, done):
        if stage == "scans":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demo(tmp_path, DemoSettings(n_trs=3, n_voxels=5), interrupt)
    assert not list(tmp_path.iterdir())


def test_scan_correlates_with_the_signal_as_much_as_the_ceiling_says(features_TF):
    response = respond(features_TF)
    bold_TV = scans.simulate_subject(response, np.random.default_rng(1))
    r = [np.corrcoef(response.signal[:, v], bold_TV[:, v])[0, 1] for v in range(50)]
    np.testing.assert_allclose(r, response.ceiling, atol=0.09)
    assert np.mean(r) == pytest.approx(0.6, abs=0.015)
    assert response.ceiling.mean() == pytest.approx(0.6)
    np.testing.assert_allclose(scans.correlate(response.signal, bold_TV), r, rtol=1e-6)


def test_subjects_share_the_signal_and_not_the_noise(features_TF):
    response = respond(features_TF)
    first, second = (scans.simulate_subject(response, np.random.default_rng(s)) for s in (1, 2))
    # Two noisy views of one signal correlate as the product of their ceilings.
    r = scans.correlate(first, second)
    assert r.mean() == pytest.approx(np.mean(response.ceiling**2), abs=0.02)


def test_noise_is_autocorrelated_and_as_large_from_the_first_tr_on(features_TF):
    response = respond(features_TF[:400], n_voxels=2000, ceiling=0.5)
    bold_TV = scans.simulate_subject(response, np.random.default_rng(0)).astype(float)
    # The signal has variance 1, so that regressing it out leaves baseline and noise.
    bold_TV = 100 * (bold_TV / bold_TV.mean(0) - 1)
    noise_TV = (bold_TV - response.signal) * response.ceiling / np.sqrt(1 - response.ceiling**2)
    assert np.mean(noise_TV[0] ** 2) == pytest.approx(1, abs=0.15)
    assert np.mean(noise_TV[1:] * noise_TV[:-1]) == pytest.approx(0.3, abs=0.03)


def test_features_are_convolved_with_the_haemodynamic_response():
    impulse_TF = np.zeros((40, 1))
    impulse_TF[3] = 1
    response_T = scans.convolve_features(impulse_TF, 1.5)[:, 0]
    # By hand, at a tenth of a TR: a box one TR wide, the response read at each TR's middle.
    fine_T = np.repeat((impulse_TF[:, 0] - impulse_TF.mean()) / impulse_TF.std(), 10)
    hrf = spm_hrf(1.5, oversampling=10)
    by_hand_T = np.convolve(fine_T, hrf / hrf.sum())[: len(fine_T)][5::10]
    np.testing.assert_allclose(response_T, by_hand_T, atol=0.15)
    assert np.argmax(response_T) - 3 in (3, 4)


def test_feature_weights_say_which_features_carry_the_signal(features_TF):
    only_pitch = dict.fromkeys(FEATURES, 0.0) | {"pitch": 1.0}
    response = respond(features_TF, feature_weights=only_pitch)
    pitch_T = scans.convolve_features(features_TF, 1.5)[:, FEATURES.index("pitch")]
    r = np.corrcoef(pitch_T, response.signal.T)[0, 1:]
    np.testing.assert_allclose(np.abs(r), 1)


def test_modality_alone_explains_a_part(features_TF):
    response = respond(features_TF, n_voxels=240)
    convolved_TF = scans.convolve_features(features_TF, 1.5)
    explained = []
    for columns in ([0, 1], [2, 3], [4, 5, 6, 7, 8]):
        chosen = convolved_TF[:, columns]
        fit = chosen @ np.linalg.lstsq(chosen, response.signal, rcond=None)[0]
        explained.append(np.mean(fit.var(axis=0) / response.signal.var(axis=0)))
    assert sum(explained) == pytest.approx(1, abs=0.05)
    assert all(0.2 < share < 0.5 for share in explained)


def test_voxels_of_constant_features_have_noise_alone_and_ceiling_zero():
    response = respond(np.full((30, len(FEATURES)), 0.1))
    assert not response.signal.any()
    assert not response.ceiling.any()
    bold_TV = scans.simulate_subject(response, np.random.default_rng(0))
    assert (bold_TV.std(axis=0) > 0).all()


@pytest.mark.parametrize("n_voxels", [1, 2, 50, 401])
def test_mask_has_exactly_the_voxels_asked_for_and_a_margin(features_TF, n_voxels):
    response = respond(features_TF[:40], n_voxels=n_voxels)
    assert response.mask.sum() == n_voxels == response.signal.shape[1]
    for axis in range(3):
        assert not np.take(response.mask, [0, -1], axis=axis).any()


def test_neighbouring_voxels_respond_alike(features_TF):
    response = respond(features_TF, n_voxels=400)
    place_V3 = np.argwhere(response.mask)
    distance_VV = np.linalg.norm(place_V3[:, None] - place_V3[None], axis=-1)
    r_VV = np.corrcoef(response.signal.T)
    assert r_VV[distance_VV == 1].mean() > 0.4
    assert abs(r_VV[distance_VV > 5].mean()) < 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trs": 1}, "n_trs: 1 is"),
        ({"tr_seconds": 0.1}, "tr_seconds: 0.1 is"),
        ({"tr_seconds": float("nan")}, "tr_seconds: nan is"),
        ({"n_subjects": 0}, "n_subjects: 0 is"),
        ({"n_voxels": 0}, "n_voxels: 0 is"),
        ({"seed": -1}, "seed: -1 is"),
        ({"n_repeats": 0}, "n_repeats: 0 is"),
        ({"fast_features": 1.5}, "fast_features: 1.5 is out of range; 0 to 1 is accepted"),
        ({"own_tuning": -0.1}, "own_tuning: -0.1 is"),
        ({"interaction": 2.0}, "interaction: 2.0 is"),
        ({"high_pass_seconds": 3.0}, "high_pass_seconds: 3.0 s; more than two TRs"),
        ({"drift": float("inf")}, "drift: inf is"),
        ({"ceiling": 1.0}, "ceiling: 1.0 is"),
        ({"feature_weights": {"smell": 1.0}}, "no feature 'smell'; there are .*luminance"),
        ({"feature_weights": {"pitch": -1.0}}, "pitch is -1.0"),
        ({"feature_weights": dict.fromkeys(FEATURES, 0.0)}, "all are 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        DemoSettings(**settings)
    assert "\n" not in str(caught.value)


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match="is a file"):
        make_demo(tmp_path / "demo", DemoSettings(n_trs=2))
