"""What scans do not share: their truth is written, and the ceiling stays what it says."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from nilearn.signal import clean

from giblet_ray.demo import DemoSettings, make_demo, scans, simulate, subjects
from giblet_ray.demo.measure import FEATURES
from giblet_ray.evaluation.ceiling import explainable_ceiling

TR, N_VOXELS = 1.5, 60


@pytest.fixture(scope="module")
def features_TF():  # noqa: N802
    """Features of scenes of 12 s, and of some that change from TR to TR."""
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.standard_normal((50, len(FEATURES))), 8, axis=0)
    return slow + 0.5 * rng.standard_normal(slow.shape)


def tune(features_TF, own_tuning=0.0, interaction=0.0, seed=0, ceiling=0.6):
    """Return what all share, and two subjects' tuning."""
    rng = np.random.default_rng(seed)
    convolved_TF = scans.convolve_features(features_TF, TR)
    product_T = subjects.convolve_product(features_TF, TR)
    weights_FV = scans.draw_weights(N_VOXELS, {}, rng)
    shared = scans.respond(convolved_TF @ weights_FV, ceiling, rng)
    planted_V = np.sqrt(interaction) * scans.draw_interaction(N_VOXELS, rng)
    two = [
        subjects.tune(
            shared,
            convolved_TF,
            product_T,
            weights_FV,
            scans.draw_weights(N_VOXELS, {}, rng),
            own_tuning,
            planted_V,
        )
        for _ in range(2)
    ]
    return shared, two, convolved_TF, product_T


@pytest.mark.parametrize("own_tuning", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("interaction", [0.0, 0.2])
def test_signal_is_what_the_weights_make_of_the_film(features_TF, own_tuning, interaction):
    _, two, convolved_TF, product_T = tune(features_TF, own_tuning, interaction)
    for tuning in two:
        made_TV = convolved_TF @ tuning.weights + product_T[:, None] * tuning.interaction
        np.testing.assert_allclose(tuning.response.signal, made_TV - made_TV.mean(0), atol=1e-9)
        np.testing.assert_allclose(tuning.response.signal.var(0), 1)


def test_subjects_share_what_is_not_their_own(features_TF):
    for own_tuning in (0.0, 0.3, 1.0):
        shared, (first, second), *_ = tune(features_TF, own_tuning)
        r = scans.correlate(first.response.signal, second.response.signal).mean()
        assert r == pytest.approx(1 - own_tuning, abs=0.12)
        with_shared = scans.correlate(first.response.signal, shared.signal).mean()
        assert with_shared == pytest.approx(np.sqrt(1 - own_tuning), abs=0.12)


def test_interaction_is_no_linear_function_of_the_features(features_TF):
    _, (plain, _), convolved_TF, _ = tune(features_TF)
    _, (mixed, _), *_ = tune(features_TF, interaction=0.3)
    design = np.column_stack([np.ones(len(convolved_TF)), convolved_TF])

    def missed(tuning):
        signal_TV = tuning.response.signal
        return (signal_TV - design @ np.linalg.lstsq(design, signal_TV, rcond=None)[0]).var(0)

    np.testing.assert_allclose(missed(plain), 0, atol=1e-9)
    follows = mixed.interaction != 0
    assert 0.5 < follows.mean() < 0.9
    np.testing.assert_allclose(missed(mixed)[~follows], 0, atol=1e-9)
    assert missed(mixed)[follows].mean() == pytest.approx(0.3, abs=0.08)


def test_ceiling_holds_for_high_passed_scans_of_every_subject(features_TF):
    _, two, *_ = tune(features_TF, own_tuning=0.5)
    basis_TC = subjects.slow_basis(len(features_TF), TR, 128)
    np.testing.assert_allclose(basis_TC.T @ basis_TC, np.eye(10), atol=1e-12)
    rng = np.random.default_rng(5)
    for tuning in two:
        response = subjects.for_high_passed(tuning.response, basis_TC)
        signal_TV = subjects.without(basis_TC, response.signal)
        r_RV = [
            scans.correlate(
                subjects.without(basis_TC, scans.simulate_subject(response, rng).astype(float)),
                signal_TV,
            )
            for _ in range(20)
        ]
        np.testing.assert_allclose(np.mean(r_RV, axis=0), response.ceiling, atol=0.05)
        assert np.mean(r_RV) == pytest.approx(0.6, abs=0.005)


@pytest.mark.parametrize("drift", [0.0, 1.0, 2.0])
def test_without_a_high_pass_drift_lowers_the_ceiling(features_TF, tmp_path, drift):
    settings = DemoSettings(n_voxels=N_VOXELS, drift=drift, n_repeats=4)
    names = {name: tmp_path / f"{name}.nii.gz" for name in simulate.scan_names(settings)}
    simulate.write_scans(tmp_path, features_TF, names, settings, lambda done: None)
    told = json.loads((tmp_path / simulate.CEILING).read_text())
    reached = np.mean(list(told["mean_r_of_signal_and_scan"].values()))
    assert told["mean"] == pytest.approx(reached, abs=0.02)


def test_high_pass_removes_most_of_the_drift():
    left = []
    for seed in range(20):
        drift_TV = subjects.draw_drift(360, TR, 40, 2.0, np.random.default_rng(seed))
        np.testing.assert_allclose(drift_TV.std(axis=0), 2)
        kept = {"detrend": False, "standardize": None, "standardize_confounds": False}
        filtered_TV = clean(drift_TV, filter="cosine", high_pass=1 / 128, t_r=TR, **kept)
        left.append(filtered_TV.var() / drift_TV.var())
    assert 0 < np.mean(left) < 0.05


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    settings = DemoSettings(
        n_trs=64,
        n_voxels=N_VOXELS,
        fast_features=0.7,
        own_tuning=0.3,
        interaction=0.2,
        drift=1.5,
        n_repeats=2,
        high_pass_seconds=60.0,
        seed=2,
    )
    return make_demo(tmp_path_factory.mktemp("demo"), settings)


def test_truth_beside_the_scans_is_what_they_were_made_of(demo):
    truth, words = np.load(demo.truth), json.loads(demo.truth_in_words.read_text())
    assert {name.partition("/")[0] for name in truth} == {
        name.partition("/")[0] for name in words["arrays"]
    }
    mask = nibabel.load(demo.mask).get_fdata() > 0
    names = [path.name.removesuffix("_demo-film_bold.nii.gz") for path in demo.scans]
    assert names == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "sub-02_ses-2"]
    noises = {}
    for name, path in zip(names, demo.scans, strict=True):
        subject = name.partition("_")[0]
        bold_TV = nibabel.load(path).get_fdata()[mask].T
        assert bold_TV.shape == truth[f"signal/{subject}"].shape == (64, N_VOXELS)
        # Less what was planted, noise is left: white but for its known autocorrelation.
        changes_TV = 100 * (bold_TV / bold_TV.mean(0) - 1)
        planted_TV = truth[f"signal/{subject}"] + truth[f"drift/{name}"]
        noise_TV = (changes_TV - planted_TV) / truth[f"noise_sd/{subject}"]
        assert noise_TV.var(axis=0).mean() == pytest.approx(1, abs=0.1)
        noises[name] = noise_TV
        for array in ("weights", "interaction"):
            assert truth[f"{array}/{subject}"].shape[-1] == N_VOXELS
    for one, other in (names[:2], names[2:], names[::2]):
        assert abs(scans.correlate(noises[one], noises[other]).mean()) < 0.05
    assert scans.correlate(truth["drift/sub-01_ses-1"], truth["drift/sub-01_ses-2"]).std() > 0.1
    assert demo.scan_pattern == "sub-{subject}_ses-{repeat}"


def test_ceiling_from_the_repeats_is_the_known_one(demo):
    """As evaluate has it, from scans as precompute reads them."""
    import torch

    from giblet_ray.spaces.scan import ScanOptions, read_bold

    options = ScanOptions(high_pass_seconds=60.0)
    known = np.load(demo.ceiling_voxels)
    told = json.loads(demo.ceiling.read_text())["mean_estimated_from_repeats"]
    for subject, pair in (("sub-01", demo.scans[:2]), ("sub-02", demo.scans[2:])):
        repeats = [
            read_bold(path, demo.mask, tr_seconds=demo.tr_seconds, options=options) for path in pair
        ]
        bold_RTV = torch.from_numpy(np.stack(repeats)).double()
        scored_RTV = (bold_RTV - bold_RTV.mean(1, keepdim=True)) / bold_RTV.std(1, keepdim=True)
        found = explainable_ceiling([scored_RTV], 14).ceiling_V
        assert found.mean() == pytest.approx(known.mean(), abs=0.05)
        assert told[subject] == pytest.approx(np.nanmean(found), abs=1e-4)
    assert (
        demo.ceiling_in_words() == f"0.6500, known; {np.mean([*told.values()]):.4f} by the repeats"
    )
