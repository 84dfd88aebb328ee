"""The interval of a mean r: over TRs that depend on one another, whatever the units."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch

from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r
from giblet_ray.evaluation.interval import mean_interval
from giblet_ray.evaluation.long_run import n_cosines, slow_cosines

LEAST_TRS = 13


def drifting(random: np.random.Generator, n_trs: int) -> np.ndarray:
    """Noise of which each value keeps 0.8 of the last."""
    noise = random.normal(size=n_trs + 50)
    return np.array([*scipy.signal.lfilter([1], [1, -0.8], noise)])[50:]


def test_interval_covers_the_mean_although_trs_depend_on_one_another() -> None:
    random, covered, n = np.random.default_rng(0), 0, 400
    for _ in range(n):
        terms_T = drifting(random, 700) / 700
        mean = MeanR(0.3 + terms_T.sum(), (terms_T - terms_T.mean(),), (("film", 0),))
        interval = mean_interval(mean, LEAST_TRS)
        covered += interval.low < 0.3 < interval.high
    assert 0.92 <= covered / n <= 0.98


def test_units_that_say_the_same_again_make_it_no_narrower() -> None:
    """Which an interval over units would be, by more than three times."""
    random = np.random.default_rng(1)
    bold_TV = np.stack([drifting(random, 300) for _ in range(6)], axis=1)
    prediction_TV = bold_TV + 2 * random.normal(size=bold_TV.shape)
    found = []
    for times in (1, 12):
        rows = (torch.from_numpy(np.tile(each, (1, times))) for each in (prediction_TV, bold_TV))
        scan = ScanRows("01", "film", np.arange(300), *rows)
        mean = mean_r([scan])
        found.append(mean_interval(mean, LEAST_TRS))
    assert found[1].low == pytest.approx(found[0].low, abs=1e-9)
    assert found[1].high == pytest.approx(found[0].high, abs=1e-9)
    cosines = slow_cosines(mean.series, n_cosines(mean.stretches, LEAST_TRS))
    half = scipy.stats.t.ppf(0.975, len(cosines)) * np.sqrt(np.mean(cosines**2))
    assert found[1].high - mean.value == pytest.approx(half, rel=1e-4)
    assert found[1].n_trs == 300
