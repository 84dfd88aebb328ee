"""Intervals of a mean r: against resampled rows, and what they cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from giblet_ray.errors import InputError
from giblet_ray.evaluation import block_bootstrap
from giblet_ray.evaluation.block_bootstrap import bootstrap_mean_r
from giblet_ray.evaluation.influence import ScanRows, mean_r
from giblet_ray.evaluation.scan_sums import ScanSums


def smooth(random: np.random.Generator, n: int, units: int) -> np.ndarray:
    """Noise that is smooth over TRs and units."""
    found = scipy.ndimage.gaussian_filter(random.normal(size=(n, units)), (2, 3), mode="wrap")
    return found / found.std()


def rows(
    subject: str = "01", film: str = "film", seed: int = 0, n: int = 420, units: int = 12
) -> ScanRows:
    random = np.random.default_rng(seed)
    signal, noise, error = (smooth(random, n, units) for _ in range(3))
    predicted, bold = signal + 0.8 * error, 0.5 * signal + noise
    return ScanRows(subject, film, np.arange(n), *map(torch.from_numpy, (predicted, bold)))


def test_resamples_are_r_of_rows_that_are_really_repeated() -> None:
    """Ragged blocks, in float64 and float32, whatever the chunks of units."""
    scan = rows(n=47)
    block_T = np.repeat([0, 1, 2, 3], [12, 11, 14, 10])
    counts = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), 20)
    p, b = scan.prediction_TV.numpy(), scan.bold_TV.numpy()
    expected = []
    for of_blocks in counts:
        index = np.repeat(np.arange(47), of_blocks[block_T])
        r = [scipy.stats.pearsonr(p[index, v], b[index, v]).statistic for v in range(12)]
        expected.append(np.mean(r))
    alike = np.full(12, 1 / 12)
    found = block_bootstrap._resampled(scan, alike, block_T, counts)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    low = ScanRows("01", "film", scan.tr_T, scan.prediction_TV.float(), 1000 + scan.bold_TV.float())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_bootstrap, "_BYTES_AT_A_TIME", 1)
        np.testing.assert_allclose(
            block_bootstrap._resampled(low, alike, block_T, counts), expected, atol=1e-4
        )


@pytest.mark.parametrize("are_shared", [True, False])
def test_value_is_that_of_the_scores_where_a_subject_lacks_units(are_shared: bool) -> None:
    scans = [rows("01"), rows("01", "b", seed=1), rows("02", seed=2)]
    for scan in scans:
        scan.prediction_TV[:, :6] += 3 * scan.bold_TV[:, :6]
    scans[2].bold_TV[:, :5] = 0.0
    scans[1].bold_TV[:, 9] = 7.0
    sums = ScanSums([scan.subject for scan in scans], 12, units_are_shared=are_shared)
    for index, scan in enumerate(scans):
        sums.add(index, scan.prediction_TV, scan.bold_TV)
    found = bootstrap_mean_r(scans, 13, 100, 0, units_are_shared=are_shared)
    expected = sums.compute().summary()["pearson_mean"]
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value < found.high


def test_units_that_some_subjects_lack_are_no_spread_between_subjects() -> None:
    """All are predicted perfectly, half of them at half of the units."""
    scans = [rows(str(subject), seed=subject) for subject in range(16)]
    for scan in scans[::2]:
        scan.bold_TV[:, :6] = 0.0
    same = [replace(scan, prediction_TV=scan.bold_TV) for scan in scans]
    found = bootstrap_mean_r(same, 13, 100, 0)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-6)


def test_interval_covers_what_is_expected() -> None:
    """Of 150 data sets; benchmarks/score_functions.py asks more of more."""
    found = [bootstrap_mean_r([rows(seed=seed)], 13, 200, seed) for seed in range(150)]
    expected = np.mean([each.value for each in found])
    covered = np.mean([each.low < expected < each.high for each in found])
    assert 0.89 <= covered <= 0.99


def test_units_are_not_drawn() -> None:
    """Twice the same units say nothing more."""
    scan = rows()
    doubled = ScanRows(
        *(scan.subject, scan.stimulus, scan.tr_T),
        torch.cat([scan.prediction_TV] * 2, dim=1),
        torch.cat([scan.bold_TV] * 2, dim=1),
    )
    one, two = (bootstrap_mean_r([each], 13, 200, 0) for each in (scan, doubled))
    assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9)


def test_subjects_of_one_film_are_drawn_at_the_same_trs() -> None:
    """What disturbs a TR in all of them is one event: two equal subjects know no more than one."""
    one = bootstrap_mean_r([rows("01")], 13, 200, 0)
    same = bootstrap_mean_r([rows("01"), rows("02")], 13, 200, 0)
    assert (one.low, one.high) == pytest.approx((same.low, same.high), abs=1e-9)
    other = bootstrap_mean_r([rows("01"), rows("02", seed=1)], 13, 200, 0)
    assert other.high - other.low < 0.9 * (one.high - one.low)
    assert (other.n_subjects, other.n_trs, other.subjects_are_drawn) == (2, 420, False)
    assert "over these subjects" in str(other)


def test_subjects_are_drawn_from_sixteen_on() -> None:
    """What they differ by is then part of the interval."""
    scans = []
    for subject in range(16):
        scan = rows(str(subject), seed=subject)
        if subject % 2:  # half of them are not predicted at all
            scan = ScanRows(
                *(scan.subject, scan.stimulus, scan.tr_T),
                scan.prediction_TV,
                rows(seed=99 - subject).bold_TV,
            )
        scans.append(scan)
    few = bootstrap_mean_r(scans[:15], 13, 300, 0)
    many = bootstrap_mean_r(scans, 13, 300, 0)
    assert (few.subjects_are_drawn, many.subjects_are_drawn) == (False, True)
    assert many.high - many.low > 1.5 * (few.high - few.low)
    means = [mean_r([scan]).value for scan in scans]
    half = scipy.stats.t.ppf(0.975, 15) * np.std(means, ddof=1) / 4
    assert (many.high - many.low) / 2 == pytest.approx(half, rel=0.3)
    assert "over subjects" in str(many)


def test_value_is_the_mean_and_seed_decides() -> None:
    scans = [rows("01", "a"), rows("01", "b", 1, n=90), rows("02", "a", 2)]
    found = bootstrap_mean_r(scans, 13, 100, 0)
    assert found.value == mean_r(scans).value
    assert found.low < found.value < found.high
    assert found == bootstrap_mean_r(scans, 13, 100, 0)
    assert found != bootstrap_mean_r(scans, 13, 100, 1)
    assert found.n_blocks >= 4
    assert found.block_trs >= 13


def test_film_without_two_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="film: its 25 held-out TRs are no two blocks of 13"):
        bootstrap_mean_r([rows(n=25)], 13, 100, 0)


def test_perfect_prediction_has_an_interval_of_no_width() -> None:
    scan = rows()
    same = ScanRows(scan.subject, scan.stimulus, scan.tr_T, scan.bold_TV, scan.bold_TV)
    found = bootstrap_mean_r([same], 13, 100, 0)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1), abs=1e-6)
