"""The block-permutation test: against predictions that are really swapped, and its properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation.paired import BlockSums, paired_test

LENGTHS = (9, 14, 7, 11, 8)  # of blocks, in rows
N = sum(LENGTHS)
BLOCK_N = np.repeat(np.arange(len(LENGTHS)), LENGTHS)


def rows_of(n_voxels=4, seed=0, better=0.4, lengths=LENGTHS):
    """Return targets and two models' predictions, the first the better one."""
    random = np.random.default_rng(seed)
    n = sum(lengths)
    target = random.normal(size=(n, n_voxels))
    a = better * target + random.normal(size=(n, n_voxels)) + 0.3
    b = 0.2 * target + random.normal(size=(n, n_voxels))
    return target, a, b


def sums_of(prediction, target, block=BLOCK_N):
    sums = BlockSums(int(block.max()) + 1, target.shape[1])
    sums.add(block, prediction, target)
    return sums


def outcome(a, b, target, block=BLOCK_N, n_permutations=1000, seed=0, valid=None):
    valid = np.ones(target.shape[1], bool) if valid is None else valid
    pair = sums_of(a, target, block), sums_of(b, target, block)
    return paired_test(*pair, valid, n_permutations, seed)


def mean_difference(a, b, target):
    """Compute the statistic from whole predictions, voxel by voxel."""
    r = [
        scipy.stats.pearsonr(a[:, v], target[:, v]).statistic
        - scipy.stats.pearsonr(b[:, v], target[:, v]).statistic
        for v in range(target.shape[1])
    ]
    return float(np.mean(r))


def swapped(a, b, blocks, block=BLOCK_N):
    """Exchange two models' predictions in some blocks."""
    rows = np.isin(block, blocks)[:, None]
    return np.where(rows, b, a), np.where(rows, a, b)


@pytest.mark.parametrize("better", [0.2, 0.9])
def test_every_permutation_is_what_swapping_predictions_gives(better):
    target, a, b = rows_of(better=better)
    result = outcome(a, b, target)
    n_blocks = len(LENGTHS)
    every = [
        mean_difference(*swapped(a, b, blocks), target)
        for size in range(n_blocks + 1)
        for blocks in itertools.combinations(range(n_blocks), size)
    ]
    assert len(every) == 2**n_blocks
    assert result.exact
    assert len(result.null_P) == 2 ** (n_blocks - 1)
    mirrored = np.sort(np.concatenate([result.null_P, -result.null_P]))
    np.testing.assert_allclose(mirrored, np.sort(every), atol=1e-12)
    observed = mean_difference(a, b, target)
    assert result.difference == pytest.approx(observed, abs=1e-12)
    extreme = np.abs(every) >= abs(observed) - 1e-10
    assert result.p == pytest.approx(extreme.mean(), abs=1e-15)
    assert (result.n_blocks, result.n_rows, result.n_voxels) == (n_blocks, N, 4)


def test_correlations_are_those_of_scipy():
    target, a, b = rows_of()
    result = outcome(a, b, target)
    for found, prediction in ((result.pearson_a_V, a), (result.pearson_b_V, b)):
        expected = [scipy.stats.pearsonr(prediction[:, v], target[:, v])[0] for v in range(4)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_random_permutations_swap_blocks_and_agree_with_all_of_them():
    lengths = (5, 8, 6, 9, 7, 5, 8, 6, 7, 9, 5, 6)
    block = np.repeat(np.arange(len(lengths)), lengths)
    target, a, b = rows_of(seed=3, lengths=lengths)
    exact = outcome(a, b, target, block, n_permutations=2048)
    random = outcome(a, b, target, block, n_permutations=2047)
    assert exact.exact
    assert not random.exact
    assert len(random.null_P) == 2047
    possible = np.concatenate([exact.null_P, -exact.null_P])
    assert np.abs(random.null_P[:, None] - possible).min(axis=1).max() < 1e-12
    assert random.p == pytest.approx(exact.p, abs=0.03)
    extreme = (np.abs(random.null_P) >= abs(random.difference) - 1e-10).sum()
    assert random.p == (1 + extreme) / 2048
    again = outcome(a, b, target, block, n_permutations=2047)
    np.testing.assert_array_equal(again.null_P, random.null_P)
    other = outcome(a, b, target, block, n_permutations=2047, seed=1)
    assert not np.array_equal(other.null_P, random.null_P)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), better=st.floats(-0.5, 1.5))
def test_exchanging_the_models_turns_the_sign_and_keeps_p(seed, better):
    target, a, b = rows_of(seed=seed, better=better)
    forward, backward = outcome(a, b, target), outcome(b, a, target)
    assert backward.difference == pytest.approx(-forward.difference, abs=1e-12)
    assert backward.p == forward.p
    assert 0 < forward.p <= 1
    assert forward.p >= forward.smallest_p


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, N), max_size=6))
def test_rows_may_come_in_any_batches(cuts):
    target, a, _ = rows_of()
    whole, parts = sums_of(a, target), BlockSums(len(LENGTHS), 4)
    for start, stop in itertools.pairwise([0, *sorted(cuts), N]):
        rows = slice(start, stop)
        parts.add(BLOCK_N[rows], a[rows].astype(np.float32).astype(float), target[rows])
    whole = sums_of(a.astype(np.float32).astype(float), target)
    np.testing.assert_allclose(parts.sums_SBV, whole.sums_SBV, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(parts.n_B, LENGTHS)


def test_same_model_twice_has_no_difference_and_p_of_1():
    target, a, _ = rows_of()
    result = outcome(a, a, target)
    assert result.difference == 0
    assert result.p == 1


def test_scale_and_offset_of_predictions_do_not_count():
    # Within a block they do: swapping predictions of another scale is another prediction.
    target, a, b = rows_of()
    plain, scaled = outcome(a, b, target), outcome(7 * a - 3, 7 * b - 3, target)
    np.testing.assert_allclose(scaled.null_P, plain.null_P, atol=1e-12)
    assert scaled.p == plain.p


def test_clear_difference_reaches_the_smallest_p():
    lengths = (14,) * 10
    block = np.repeat(np.arange(10), lengths)
    target, a, b = rows_of(n_voxels=30, better=2.0, lengths=lengths)
    result = outcome(a, b, target, block)
    assert result.p == result.smallest_p == 2 / 2**10
    few = outcome(a[:70], b[:70], target[:70], block[:70])
    assert few.p == few.smallest_p == 2 / 2**5  # five blocks never reach 0.05
    assert outcome(a, b, target, block, n_permutations=99).smallest_p == 0.01


def test_equally_good_models_are_seldom_told_apart_however_smooth_their_errors():
    """Errors that last for several TRs: rows alone would find differences everywhere."""
    random = np.random.default_rng(0)
    block = np.repeat(np.arange(9), 20)
    kernel = np.hanning(9)
    found = []
    for _ in range(80):
        smooth = [
            scipy.ndimage.convolve1d(random.normal(size=(180, 6)), kernel, axis=0) for _ in range(3)
        ]
        target, noise_a, noise_b = smooth
        result = outcome(target + noise_a, target + noise_b, target, block, n_permutations=256)
        found.append(result.p)
    assert np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.15)


def test_constant_prediction_has_r_0_and_constant_bold_is_not_scored():
    target, a, b = rows_of()
    b[:, 1], target[:, 2] = 0.7, 0.0
    result = outcome(a, b, target)
    assert result.pearson_b_V[1] == 0
    assert np.isnan(result.pearson_a_V[2])
    assert np.isnan(result.pearson_b_V[2])
    others = [0, 1, 3]
    rest = outcome(a[:, others], b[:, others], target[:, others])
    assert result.difference == pytest.approx(rest.difference, abs=1e-14)
    assert (result.p, result.n_voxels) == (rest.p, 3)


def test_only_valid_voxels_count_and_others_may_hold_anything():
    target, a, b = rows_of()
    valid = np.array([True, False, True, True])
    expected = outcome(a[:, valid], b[:, valid], target[:, valid])
    target[:, 1] = np.nan
    result = outcome(a, b, target, valid=valid)
    np.testing.assert_allclose(result.null_P, expected.null_P, atol=1e-14)
    assert np.isnan(result.pearson_a_V[1])
    with pytest.raises(InputError, match="BOLD: found NaN or infinity in a valid voxel"):
        outcome(a, b, target)


def test_what_cannot_be_compared_is_refused():
    target, a, b = rows_of()
    with pytest.raises(InputError, match="different rows or targets"):
        paired_test(sums_of(a, target), sums_of(b, target + 1), np.ones(4, bool), 99, 0)
    short = sums_of(b[:-1], target[:-1], BLOCK_N[:-1])
    with pytest.raises(InputError, match="different rows or targets"):
        paired_test(sums_of(a, target), short, np.ones(4, bool), 99, 0)
    with pytest.raises(InputError, match="no valid voxel varies"):
        outcome(a, b, np.zeros_like(target))
    with pytest.raises(InputError, match="held-out rows: found 0"):
        paired_test(BlockSums(2, 3), BlockSums(2, 3), np.ones(3, bool), 99, 0)
    sums = BlockSums(len(LENGTHS), 4)
    with pytest.raises(InputError, match="must ascend within 0 to 4"):
        sums.add(BLOCK_N[::-1], a, target)
    with pytest.raises(InputError, match="must both be"):
        sums.add(BLOCK_N, a[:, :3], target)
    a[3, 2] = np.inf
    with pytest.raises(InputError, match="prediction: found NaN or infinity"):
        sums.add(BLOCK_N, a, target)
