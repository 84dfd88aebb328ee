"""Paired tests: against rotations made one by one, and errors that last for scenes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch

from giblet_ray.errors import InputError
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r
from giblet_ray.evaluation.long_run import LEAST_COSINES, slow_cosines
from giblet_ray.evaluation.paired import paired_tests


def slow(random: np.random.Generator, n: int, units: int, time: float = 40) -> np.ndarray:
    """Noise of unit variance that lasts for so many TRs: a minute of 1.5 s each."""
    a = np.exp(-1 / time)
    noise = random.normal(size=(n + int(8 * time), units))
    return scipy.signal.lfilter([np.sqrt(1 - a * a)], [1, -a], noise, axis=0)[-n:]


def scored(prediction: np.ndarray, bold: np.ndarray, first: int = 0) -> MeanR:
    trs = np.arange(first, first + len(bold))
    rows = ScanRows("01", "film", trs, torch.from_numpy(prediction), torch.from_numpy(bold))
    return mean_r([rows])


def models(seed: int, n: int = 600, worse: tuple[float, ...] = (0, 0, 0)) -> list[MeanR]:
    """Models whose errors differ in their own way, and by what is added to them."""
    random = np.random.default_rng(seed)
    signal = slow(random, n, 6, 4)
    bold = 0.6 * signal + slow(random, n, 6, 3)
    return [scored(signal + (0.8 + w) * slow(random, n, 6), bold) for w in worse]


def test_p_of_a_pair_is_students_of_its_difference_and_cosines() -> None:
    a, b, _ = models(0)
    (found,) = paired_tests([(a, b)], 14, 4000)
    cosines = slow_cosines((a - b).series, found.n_cosines)
    error = np.sqrt(np.mean(cosines**2))
    expected = 2 * scipy.stats.t.sf(abs(a.value - b.value) / error, found.n_cosines)
    assert found.difference == a.value - b.value
    assert found.p == pytest.approx(expected, rel=1e-3)
    half = scipy.stats.t.ppf(0.975, found.n_cosines) * error
    assert (found.low, found.high) == pytest.approx(
        (found.difference - half, found.difference + half), rel=1e-3
    )
    # Rotations of one pair are Student's t too, which is found another way.
    assert found.family_p == pytest.approx(found.p, abs=0.03)
    assert scipy.stats.kstest(found.null_P / error, "t", (found.n_cosines,)).pvalue > 0.01
    assert found.smallest_p == 1 / 4001


def test_family_is_of_the_largest_t_of_all_pairs() -> None:
    a, b, c = models(1)
    pairs = [(a, b), (a, c), (b, c)]
    found = paired_tests(pairs, 14, 999, seed=3)
    n = found[0].n_cosines
    random = np.random.default_rng(3)
    vectors = [
        np.concatenate([[x.value - y.value], slow_cosines((x - y).series, n)]) for x, y in pairs
    ]
    largest = []
    for direction in random.normal(size=(999, n + 1)):
        unit = direction / np.linalg.norm(direction)
        t = [unit @ v / np.linalg.norm(v - (unit @ v) * unit) * np.sqrt(n) for v in vectors]
        largest.append(np.abs(t).max())
    for test, vector in zip(found, vectors, strict=True):
        t = vector[0] / np.sqrt(np.mean(vector[1:] ** 2))
        expected = (1 + np.sum(np.array(largest) >= abs(t))) / 1000
        assert test.family_p == pytest.approx(max(test.p, expected), abs=1e-12)
        assert test.family_p >= test.p


def test_equal_models_are_seldom_told_apart_though_their_errors_last_for_a_minute() -> None:
    """benchmarks/score_functions.py asks the same of more and longer data."""
    alone, family = [], []
    for seed in range(100):
        a, b, c = models(seed, n=1200)
        found = paired_tests([(a, b), (a, c), (b, c)], 14, 199, seed)
        alone += [found[0].p]
        family += [min(test.family_p for test in found)]
    assert np.mean(np.array(alone) <= 0.05) <= 0.1
    assert np.mean(np.array(family) <= 0.05) <= 0.1
    assert np.mean(np.array(alone) <= 0.5) == pytest.approx(0.5, abs=0.15)


def test_a_worse_model_is_found_and_the_order_decides_the_sign() -> None:
    a, b, c = models(0, n=1500, worse=(0, 0.8, 0.8))
    found = paired_tests([(a, b), (a, c)], 14, 999)
    assert all(test.family_p < 0.05 and test.low > 0 for test in found)
    (there,), (back,) = (paired_tests([pair], 14, 999) for pair in ((a, b), (b, a)))
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low)
    )
    assert back.p == pytest.approx(there.p)


def test_same_model_twice_has_no_difference_and_p_of_1() -> None:
    a, _, _ = models(0)
    (found,) = paired_tests([(a, a)], 14, 99)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert (found.p, found.family_p) == (1, 1)
    assert not found.null_P.any()


def test_scale_and_offset_of_predictions_do_not_count() -> None:
    random = np.random.default_rng(0)
    signal, bold = slow(random, 600, 6, 4), slow(random, 600, 6, 3)
    a, b = signal + 0.5 * bold, signal
    plain = paired_tests([(scored(a, bold), scored(b, bold))], 14, 99)[0]
    scaled = paired_tests([(scored(7 * a - 3, 1000 + 20 * bold), scored(b, bold))], 14, 99)[0]
    assert scaled.p == pytest.approx(plain.p, abs=1e-9)
    np.testing.assert_allclose(scaled.null_P, plain.null_P, atol=1e-9)


def test_few_trs_leave_few_cosines() -> None:
    a, b, _ = models(0, n=100)
    (found,) = paired_tests([(a, b)], 14, 99)
    assert (found.n_cosines, found.n_trs) == (LEAST_COSINES, 100)


def test_what_cannot_be_paired_is_refused() -> None:
    a, b, _ = models(0)
    with pytest.raises(InputError, match="found no pair"):
        paired_tests([], 14, 99)
    random = np.random.default_rng(0)
    bold = slow(random, 600, 6)
    other = scored(slow(random, 600, 6), bold, first=7)
    with pytest.raises(InputError, match="scored on different TRs"):
        paired_tests([(a, other)], 14, 99)
    with pytest.raises(InputError, match="pairs were scored on different TRs"):
        paired_tests([(a, b), (other, other)], 14, 99)
