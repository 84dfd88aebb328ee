"""Block lengths: against loops, and what is known of autoregressions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation.blocks import autocovariance, block_length, cut_blocks


def autoregression(coefficient: float, n: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n + 500)
    return scipy.signal.lfilter([1], [1, -coefficient], noise)[500:]


def test_autocovariance_is_that_of_the_loop_over_lags_within_stretches() -> None:
    random = np.random.default_rng(0)
    stretches = [random.normal(size=n) for n in (23, 9, 1, 40)]
    whole = np.concatenate(stretches)
    expected = [
        sum(
            (each[t] - whole.mean()) * (each[t + lag] - whole.mean())
            for each in stretches
            for t in range(len(each) - lag)
        )
        / len(whole)
        for lag in range(13)
    ]
    np.testing.assert_allclose(autocovariance(stretches, 12), expected, atol=1e-12)


@pytest.mark.parametrize("coefficient", [0.0, 0.5, 0.9])
def test_blocks_of_an_autoregression_are_those_of_theory(coefficient: float) -> None:
    """Of many series; each by itself is noisy."""
    n = 4000
    series = [autoregression(coefficient, n, seed) for seed in range(40)]
    best = (1.5 * (2 * coefficient / (1 - coefficient**2)) ** 2 * n) ** (1 / 3)
    found = np.median([block_length([each], 1) for each in series])
    assert found == pytest.approx(best, rel=0.15, abs=3)


def test_stretches_are_measured_together() -> None:
    series = autoregression(0.9, 8000)
    parts = np.split(series, 40)
    assert block_length(parts, 1) == pytest.approx(block_length([series], 1), rel=0.4)
    # A gap is no lag: what would be neighbours are not.
    jumps = [np.full(30, float(sign)) for sign in (1, -1) * 20]
    assert block_length(jumps, 1) > 20


def test_block_is_never_shorter_than_the_least_nor_much_longer_than_the_data_allow() -> None:
    noise = np.random.default_rng(0).normal(size=600)
    assert block_length([noise], 14) == 14
    assert block_length([np.cumsum(noise)], 14) <= 200
    assert block_length([np.cumsum(noise)[:30]], 14) == 14
    assert block_length([np.zeros(50)], 14) == 14
    for stretches, least in (([np.zeros(50)], 0), ([np.zeros(1)], 1)):
        with pytest.raises(InputError, match="block length: found"):
            block_length(stretches, least)


@given(n_trs=st.integers(1, 300), block=st.integers(1, 60))
def test_every_tr_is_in_one_block_of_the_least_length(n_trs: int, block: int) -> None:
    blocks = cut_blocks(n_trs, block)
    lengths = np.bincount(blocks)
    assert lengths.sum() == n_trs
    assert (np.diff(blocks) >= 0).all()
    assert np.ptp(lengths) <= 1
    assert lengths.min() >= min(block, n_trs)
    assert lengths.max() < 2 * block or len(lengths) == 1
