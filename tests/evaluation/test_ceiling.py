"""Ceilings: the truth of simulated repeats, and the field's own formulas as loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from giblet_ray.errors import InputError
from giblet_ray.evaluation import ceiling
from giblet_ray.evaluation.ceiling import (
    explainable_ceiling,
    shared_ceiling,
    split_half_ceiling,
)
from giblet_ray.evaluation.influence import z_scored


def repeats(
    n: int, ceiling: float, units: int = 200, n_trs: int = 600, seed: int = 0
) -> np.ndarray:
    """BOLD whose true response correlates with each repeat by `ceiling`; smooth in time."""
    random = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter1d(random.normal(size=(n + 1, n_trs, units)), 1.5, axis=1)
    noise /= noise.std()
    bold = ceiling * noise[0] + np.sqrt(1 - ceiling**2) * noise[1:]
    return bold * random.uniform(0.5, 2, (n, 1, units)) + 100


@pytest.mark.parametrize("estimate", [explainable_ceiling, split_half_ceiling])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("true", [0.45, 0.6])
def test_ceiling_is_the_true_one(estimate, n: int, true: float) -> None:
    found = estimate([torch.from_numpy(repeats(n, true))], 14)
    assert found.ceiling_V.mean() == pytest.approx(true, abs=0.03)
    assert (found.p_V < 0.05).mean() > 0.5
    assert str(n) in found.kind


def test_ceilings_are_those_of_the_formulas() -> None:
    bold = repeats(4, 0.6, units=5)
    z = scipy.stats.zscore(bold, axis=1)
    residual = z - z.mean(axis=0)
    explained = 1 - (residual**2).mean(axis=(0, 1))
    corrected = explained - (1 - explained) / 3
    found = explainable_ceiling([torch.from_numpy(bold).float()], 14)
    np.testing.assert_allclose(found.ceiling_V, np.sqrt(corrected), atol=1e-5)
    pairs = [
        [scipy.stats.pearsonr(bold[i, :, v], bold[j, :, v]).statistic for v in range(5)]
        for i, j in itertools.combinations(range(4), 2)
    ]
    np.testing.assert_allclose(corrected, np.mean(pairs, axis=0), atol=1e-10)
    halves = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    r = np.mean(
        [
            [
                scipy.stats.pearsonr(z[list(a), :, v].mean(0), z[list(b), :, v].mean(0)).statistic
                for v in range(5)
            ]
            for a, b in halves
        ],
        axis=0,
    )
    found = split_half_ceiling([torch.from_numpy(bold).float()], 14)
    np.testing.assert_allclose(found.ceiling_V, np.sqrt(0.5 * r / (1 - 0.5 * r)), atol=1e-5)


def test_two_repeats_have_one_ceiling() -> None:
    bold = torch.from_numpy(repeats(2, 0.6, units=9))
    one, other = explainable_ceiling([bold], 14), split_half_ceiling([bold], 14)
    np.testing.assert_allclose(one.ceiling_V, other.ceiling_V, atol=1e-12)


def test_r_is_divided_where_the_ceiling_is_beyond_noise_alone() -> None:
    bold = repeats(2, 0.6, units=100)
    bold[:, :, 50:] = repeats(2, 0.0, units=50, seed=1)
    bold[1, :, 0], bold[0, 3, 1] = 7.0, np.nan
    found = explainable_ceiling([torch.from_numpy(bold)], 14)
    assert np.isnan(found.ceiling_V[:2]).all()
    assert np.isnan(found.p_V[:2]).all()
    scores = np.full(100, 0.3)
    share = found.normalised(scores)
    assert np.isnan(share[:2]).all()
    np.testing.assert_allclose(share[2:50], 0.3 / found.ceiling_V[2:50])
    assert np.isnan(share[50:]).mean() > 0.85  # p is one-sided: of 50 units, 2 or 3 pass
    assert np.nanmax(share) < 3


def test_shared_ceiling_contains_the_true_one_where_tuning_is_shared() -> None:
    bold = repeats(5, 0.6)
    found = shared_ceiling(torch.from_numpy(bold))
    assert found.lower_SV.shape == (5, 200)
    assert found.lower_SV.mean() < 0.6 < found.upper_SV.mean()
    assert found.upper_SV.mean() - found.lower_SV.mean() < 0.25
    z = scipy.stats.zscore(bold, axis=1)
    others = [scipy.stats.pearsonr(z[2, :, v], z[[0, 1, 3, 4], :, v].mean(0))[0] for v in range(9)]
    everyone = [scipy.stats.pearsonr(z[2, :, v], z[:, :, v].mean(0))[0] for v in range(9)]
    np.testing.assert_allclose(found.lower_SV[2, :9], others, atol=1e-10)
    np.testing.assert_allclose(found.upper_SV[2, :9], everyone, atol=1e-10)


def test_unit_without_bold_in_a_subject_is_left_out_of_the_others_mean() -> None:
    bold = repeats(3, 0.6, units=4)
    bold[1, :, 2] = 5.0
    found = shared_ceiling(torch.from_numpy(bold))
    assert np.isnan(found.lower_SV[1, 2])
    assert np.isnan(found.upper_SV[1, 2])
    pair = shared_ceiling(torch.from_numpy(bold[[0, 2]]))
    np.testing.assert_allclose(found.lower_SV[[0, 2], 2], pair.lower_SV[:, 2], atol=1e-12)
    only = repeats(2, 0.6, units=1)
    only[1] = 3.0
    assert np.isnan(shared_ceiling(torch.from_numpy(only)).lower_SV).all()


@pytest.mark.parametrize(
    "find",
    [
        lambda bold: explainable_ceiling([bold], 14).ceiling_V,
        lambda bold: split_half_ceiling([bold], 14).p_V,
        lambda bold: shared_ceiling(bold).lower_SV,
    ],
)
def test_some_units_are_z_scored_at_a_time(find, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are in all, which changes no number."""
    bold = torch.from_numpy(repeats(3, 0.6, units=11, n_trs=90))
    expected, most = find(bold), 0

    def counted(rows_TV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal most
        most = max(most, rows_TV.shape[1])
        return z_scored(rows_TV)

    monkeypatch.setattr(ceiling, "_UNITS_AT_A_TIME", 4)
    monkeypatch.setattr(ceiling, "z_scored", counted)
    np.testing.assert_allclose(find(bold), expected, atol=1e-12)
    assert most == 4


@pytest.mark.parametrize("estimate", [explainable_ceiling, split_half_ceiling])
def test_offset_and_scale_of_a_scan_do_not_count_among_several_films(estimate) -> None:
    random = np.random.default_rng(0)
    films = [repeats(3, 0.632, n_trs=n, seed=n) for n in (150, 180, 120, 150)]
    moved = [
        film * random.uniform(0.2, 5, (3, 1, 200)) + 100 * random.normal(size=(3, 1, 200))
        for film in films
    ]
    one, other = (estimate(list(map(torch.from_numpy, each)), 14) for each in (films, moved))
    assert one.ceiling_V.mean() == pytest.approx(0.632, abs=0.03)
    np.testing.assert_allclose(other.ceiling_V, one.ceiling_V, atol=1e-9)
    np.testing.assert_array_equal(other.p_V, one.p_V)


@pytest.mark.parametrize("estimate", [explainable_ceiling, split_half_ceiling])
def test_unit_without_bold_in_a_scan_is_left_out_of_that_film(estimate) -> None:
    films = [repeats(3, 0.6, units=4, n_trs=n, seed=n) for n in (150, 180, 120)]
    films[1][2, :, 1] = 7.0
    films[1][0, 5, 2] = np.nan
    found, without = (
        estimate(list(map(torch.from_numpy, each)), 14) for each in (films, films[::2])
    )
    np.testing.assert_allclose(found.ceiling_V[1:3], without.ceiling_V[1:3], atol=1e-12)
    assert not np.isclose(found.ceiling_V[[0, 3]], without.ceiling_V[[0, 3]]).any()


@pytest.mark.parametrize("estimate", [explainable_ceiling, split_half_ceiling])
def test_one_repeat_or_subject_is_refused(estimate) -> None:
    with pytest.raises(InputError, match="two repeats or more"):
        estimate([torch.zeros(1, 60, 3)], 14)
    with pytest.raises(InputError, match="two subjects or more"):
        shared_ceiling(torch.zeros(60, 3))
    with pytest.raises(InputError, match="cannot be shifted"):
        estimate([torch.rand(2, 20, 3)], 14)
