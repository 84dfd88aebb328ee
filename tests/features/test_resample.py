from fractions import Fraction
from math import fsum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.features.resample import resample

TRS = {0.8: Fraction(4, 5), 1.5: Fraction(3, 2), 1.49: Fraction(149, 100), 2.0: Fraction(2)}


def slow_mean(values, times, n_trs, tr):
    """Sort samples into TRs one by one, in exact numbers; None for a TR without any."""
    rows = []
    for i in range(n_trs):
        inside = [v for v, t in zip(values, times, strict=True) if i * tr <= t < (i + 1) * tr]
        mean = [fsum(column) / len(inside) for column in zip(*inside, strict=True)]
        rows.append(mean or None)
    return rows


def slow_nearest(values, times, n_trs, tr):
    """Look at every sample for every TR, in exact numbers; None where the nearest is too far."""
    rows = []
    for i in range(n_trs):
        middle = (i + Fraction(1, 2)) * tr
        distance, index = min((abs(t - middle), k) for k, t in enumerate(times))
        rows.append(values[index] if distance <= tr else None)
    return rows


@given(
    hundredths=st.lists(st.integers(-150, 1300), min_size=1, max_size=60).map(sorted),
    tr_seconds=st.sampled_from(list(TRS)),
    n_trs=st.integers(1, 6),
    rule=st.sampled_from(["mean", "nearest"]),
    data=st.data(),
)
def test_rows_are_those_of_a_slow_loop_in_exact_numbers(hundredths, tr_seconds, n_trs, rule, data):
    numbers = st.floats(-100, 100, width=32)
    n = len(hundredths)
    values = data.draw(st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n))
    slow = {"mean": slow_mean, "nearest": slow_nearest}[rule]
    expected = slow(values, [Fraction(t, 100) for t in hundredths], n_trs, TRS[tr_seconds])
    given_ = (np.array(values, np.float32), np.array(hundredths) / 100, n_trs, tr_seconds, rule)
    if None in expected:
        with pytest.raises(
            InputError, match=f"gaze.tsv: has no sample in TR {expected.index(None)},"
        ):
            resample(*given_, where="gaze.tsv")
    else:
        rows = resample(*given_, where="gaze.tsv")
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, np.array(expected), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("tr_seconds", [0.8, 1.49, 1.5])
def test_nothing_drifts_over_two_hours(tr_seconds):
    n_trs = round(7200 / tr_seconds)
    times = np.arange(10 * n_trs) * (tr_seconds / 10)  # sums that rounding makes too small at times
    rows = resample(np.arange(10 * n_trs)[:, None] // 10, times, n_trs, tr_seconds, "mean", "x")
    np.testing.assert_array_equal(rows[:, 0], np.arange(n_trs))


def test_of_samples_at_one_time_nearest_takes_the_first():
    values = np.arange(4, dtype=np.float32)[:, None]
    times = np.array([0.7, 0.7, 0.8, 0.8])
    assert resample(values, times, 1, 1.5, "nearest", "x").tolist() == [[0]]
