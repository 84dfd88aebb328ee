"""Null by circular shifts: against shifted loops, and p that chance makes uniform."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from giblet_ray.errors import InputError
from giblet_ray.evaluation import null
from giblet_ray.evaluation.null import Null, draw_shifts, mean_null, shift_null

Scans = tuple[list[torch.Tensor], list[torch.Tensor]]


def scans(units: int = 5, n_trs: tuple[int, ...] = (60, 47), seed: int = 0) -> Scans:
    noise = torch.Generator().manual_seed(seed)
    bold = [torch.randn(n, units, generator=noise) + 100 for n in n_trs]
    return [0.5 * b + torch.randn(b.shape, generator=noise) for b in bold], bold


@pytest.mark.parametrize("chunk", [2, 1024])
def test_null_is_r_with_bold_that_is_rolled(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(null, "_UNITS_AT_A_TIME", chunk)
    predicted, bold = scans()
    shifts = draw_shifts(["a", "b"], [60, 47], 7, 40, 0)
    found = shift_null(predicted, bold, shifts)

    def r(by: list[int], unit: int) -> float:
        return float(
            np.mean([
                scipy.stats.pearsonr(p[:, unit], np.roll(b[:, unit], -shift)).statistic
                for p, b, shift in zip(predicted, bold, by, strict=True)
            ])
        )  # fmt: skip

    np.testing.assert_allclose(found.pearson_V, [r([0, 0], v) for v in range(5)], atol=1e-6)
    expected = [[r(shifts[:, p].tolist(), v) for p in range(40)] for v in range(5)]
    np.testing.assert_allclose(found.null_VP, expected, atol=1e-6)
    above = (np.array(expected) >= found.pearson_V[:, None]).sum(axis=1)
    np.testing.assert_allclose(found.p_values(), (1 + above) / 41)
    assert found.smallest_p == 1 / 41
    top = np.percentile(np.percentile(expected, 95, axis=0), 95)
    assert found.percentile(lambda r: np.percentile(r, 95, axis=0)) == pytest.approx(top, abs=1e-5)
    assert found.percentile() == pytest.approx(
        np.percentile(np.mean(expected, axis=0), 95), abs=1e-5
    )


def test_shifts_are_at_least_as_long_as_the_response_and_alike_within_a_film() -> None:
    shifts = draw_shifts(["a", "b", "a", "a"], [60, 90, 60, 44], 14, 500, 3)
    assert shifts.shape == (4, 500)
    for of_scan, n in zip(shifts, (60, 90, 60, 44), strict=True):
        assert of_scan.min() == 14
        assert of_scan.max() == n - 14
    np.testing.assert_array_equal(shifts[0], shifts[2])
    assert np.corrcoef(shifts[0], shifts[3])[0, 1] > 0.99
    assert abs(np.corrcoef(shifts[0], shifts[1])[0, 1]) < 0.2


def test_each_shift_of_a_single_film_is_taken_once() -> None:
    few = draw_shifts(["a"], [60], 14, 500, 0)
    assert sorted(few[0]) == list(range(14, 47))
    some = draw_shifts(["a"], [600], 14, 500, 0)
    assert len(set(some[0].tolist())) == 500


def test_units_without_bold_in_one_scan_are_those_of_the_other() -> None:
    predicted, bold = scans()
    bold[0][:, 1], bold[1][3, 2] = 5.0, np.nan
    bold[0][:, 3], bold[1][:, 3] = 1.0, 2.0
    predicted[0][:, 4], predicted[1][:, 4] = 1.0, 2.0
    shifts = draw_shifts(["a", "b"], [60, 47], 7, 40, 0)
    found = shift_null(predicted, bold, shifts)
    for unit, scan in ((1, 1), (2, 0)):
        one = shift_null([predicted[scan]], [bold[scan]], shifts[scan : scan + 1])
        np.testing.assert_allclose(found.null_VP[unit], one.null_VP[unit], atol=1e-7)
    assert np.isnan(found.pearson_V[3])
    assert np.isnan(found.p_values()[3])
    assert found.p_values()[4] == 1  # a prediction that says nothing
    assert np.isfinite(found.percentile())


def test_mean_over_subjects_is_over_those_that_have_a_score() -> None:
    shifts = draw_shifts(["a"], [60], 7, 40, 0)
    nulls = [shift_null(*scans(n_trs=(60,), seed=seed), shifts) for seed in (0, 1)]
    nulls[1].pearson_V[2], nulls[1].null_VP[2] = np.nan, np.nan
    mean = mean_null(nulls)
    np.testing.assert_allclose(
        mean.null_VP[0], (nulls[0].null_VP[0] + nulls[1].null_VP[0]) / 2, atol=1e-7
    )
    np.testing.assert_array_equal(mean.null_VP[2], nulls[0].null_VP[2])
    assert mean.pearson_V[2] == nulls[0].pearson_V[2]


def test_subjects_whose_units_differ_count_alike_in_the_mean_by_chance() -> None:
    random = np.random.default_rng(0)
    sizes = (6, 2)
    nulls = [Null(random.normal(size=n), random.normal(size=(n, 9)).astype("f4")) for n in sizes]
    nulls[0].pearson_V[4], nulls[0].null_VP[4] = np.nan, np.nan
    mean = mean_null(nulls, units_are_shared=False)
    assert mean.pearson_V.shape == (8,)
    each = [np.nanmean(null.null_VP, axis=0) for null in nulls]
    np.testing.assert_allclose(mean.means, np.mean(each, axis=0), rtol=1e-5)
    assert mean.percentile() == pytest.approx(np.percentile(mean.means, 95))


def test_p_of_a_true_prediction_is_the_smallest_and_of_none_uniform() -> None:
    """Smooth noise, as BOLD has: permuted TRs would find discoveries everywhere."""
    random = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter1d(random.normal(size=(2, 400, 300)), 3, axis=1)
    p, b = torch.from_numpy(smooth).float()
    shifts = draw_shifts(["a"], [400], 14, 300, 0)
    found = shift_null([p], [b], shifts)
    assert scipy.stats.kstest(found.p_values(), "uniform").pvalue > 0.01
    true = shift_null([p], [p + 0.5 * b], shifts)
    np.testing.assert_array_equal(true.p_values(), true.smallest_p)
    assert isinstance(true, Null)


def test_scan_that_is_too_short_to_be_shifted_is_refused() -> None:
    with pytest.raises(InputError, match="scan of 27 TRs: cannot be shifted by 14 TRs"):
        draw_shifts(["a", "b"], [90, 27], 14, 10, 0)
