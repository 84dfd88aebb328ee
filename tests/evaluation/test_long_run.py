"""The error of a mean from slow cosines: of white noise, of slow noise, and Student's t."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from giblet_ray.evaluation.long_run import (
    LEAST_COSINES,
    n_cosines,
    slow_cosines,
    student_p,
    student_quantile,
)


@pytest.mark.parametrize("n", [1, 2, 4, 9, 40, 1000, 10**6])
def test_student_is_that_of_scipy(n: int) -> None:
    for share in (0.025, 0.5, 0.9, 0.975, 0.999):
        expected = scipy.stats.t.ppf(share, n)
        assert student_quantile(share, n) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for t in (0.0, 0.3, -2.0, 4.0):
        assert student_p(t, n) == pytest.approx(2 * scipy.stats.t.sf(abs(t), n), rel=1e-3)


def test_cosines_are_of_one_size_and_independent_of_each_other_and_the_mean() -> None:
    basis = np.stack([slow_cosines(row, 8) for row in np.eye(100)], axis=1)
    np.testing.assert_allclose(basis @ basis.T, 100 * np.eye(8), atol=1e-10)
    np.testing.assert_allclose(basis.sum(axis=1), 0, atol=1e-10)
    assert len(slow_cosines(np.ones(3), 8)) == 2


@pytest.mark.parametrize(("n_trs", "n"), [(2, 1), (301, 20), (300, 299)])
def test_cosines_are_those_of_the_formula(n_trs: int, n: int) -> None:
    series = np.random.default_rng(0).normal(size=n_trs)
    expected = [
        np.sqrt(2) * sum(np.cos(np.pi * j * (t + 0.5) / n_trs) * x for t, x in enumerate(series))
        for j in range(1, n + 1)
    ]
    np.testing.assert_allclose(slow_cosines(series, n), expected, atol=1e-12 * n_trs)


def test_cosines_take_memory_that_grows_with_the_series_alone() -> None:
    series = np.random.default_rng(0).normal(size=20_000)
    tracemalloc.start()
    slow_cosines(series, 1250)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * series.nbytes


@pytest.mark.parametrize("coefficient", [0.0, 0.95])
def test_error_is_that_of_the_sum_however_slow_the_series(coefficient: float) -> None:
    noise = np.random.default_rng(0).normal(size=(300, 2500))
    series = scipy.signal.lfilter([1], [1, -coefficient], noise, axis=1)[:, 500:]
    n = int(np.median([n_cosines([each], 14) for each in series]))
    assert (n == 2000 // (4 * 14)) == (coefficient == 0)
    errors = [np.mean(slow_cosines(each, n) ** 2) for each in series]
    assert np.sqrt(np.mean(errors)) == pytest.approx(series.sum(axis=1).std(), rel=0.1)
    assert n_cosines([series[0, :60]], 14) == LEAST_COSINES
