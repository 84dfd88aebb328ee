"""Bootstrap intervals: against scipy's, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from giblet_ray.errors import InputError
from giblet_ray.evaluation.bootstrap import bootstrap_interval


def mean(scores):
    return scores.mean(axis=-1)


def median(scores):
    return np.median(scores, axis=-1)


SCORES = np.random.default_rng(0).normal(0.1, 0.2, 400)


@pytest.mark.parametrize("summary", [mean, median])
def test_interval_is_that_of_scipy(summary):
    expected = scipy.stats.bootstrap(
        (SCORES,),
        lambda scores, axis: summary(np.moveaxis(scores, axis, -1)),
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = bootstrap_interval(SCORES, summary, n_resamples=4000)
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.high, abs=0.06 * width)


def test_interval_of_the_mean_is_two_standard_errors_on_either_side():
    found = bootstrap_interval(SCORES, mean)
    error = SCORES.std() / np.sqrt(len(SCORES))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert found.low < SCORES.mean() < found.high
    assert found.n_voxels == 400


def test_voxels_without_a_score_are_left_out():
    holes = np.insert(SCORES, [0, 7, 400], np.nan)
    assert bootstrap_interval(holes, mean) == bootstrap_interval(SCORES, mean)


def test_seed_decides_and_chunks_do_not_matter(monkeypatch):
    whole = bootstrap_interval(SCORES, mean, seed=3)
    monkeypatch.setattr("giblet_ray.evaluation.bootstrap._CHUNK", 400 * 37)
    assert bootstrap_interval(SCORES, mean, seed=3) == whole
    assert bootstrap_interval(SCORES, mean, seed=4) != whole


def test_nothing_scored_is_refused():
    with pytest.raises(InputError, match="none of 2 voxels was scored"):
        bootstrap_interval([np.nan, np.nan], mean)
