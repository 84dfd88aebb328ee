"""Influence of TRs on a mean r: against leaving TRs out, and what it is invariant to."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation import influence
from giblet_ray.evaluation.influence import ScanRows, mean_r, scan_influence
from giblet_ray.evaluation.scan_sums import ScanSums


def rows(
    subject: str = "01", stimulus: str = "film", n: int = 300, units: int = 7, seed: int = 0
) -> ScanRows:
    random = np.random.default_rng(seed)
    bold = random.normal(size=(n, units))
    predicted = bold * 0.5 + random.normal(size=(n, units))
    tr = np.sort(random.choice(n + 40, n, replace=False))
    return ScanRows(subject, stimulus, tr, torch.from_numpy(predicted), torch.from_numpy(bold))


def test_r_is_that_of_scipy_and_influence_that_of_counting_a_tr_twice() -> None:
    scan = rows()
    found = scan_influence(scan)
    p, b = scan.prediction_TV.numpy(), scan.bold_TV.numpy()

    def mean(index: np.ndarray) -> float:
        return float(
            np.mean([scipy.stats.pearsonr(p[index, v], b[index, v]).statistic for v in range(7)])
        )

    everything = np.arange(300)
    r = [scipy.stats.pearsonr(p[:, v], b[:, v]).statistic for v in range(7)]
    np.testing.assert_allclose(found.pearson_V, r, atol=1e-12)
    assert abs(found.influence_T.sum()) < 1e-9
    moved = [mean(np.append(everything, t)) - np.mean(r) for t in range(0, 300, 20)]
    np.testing.assert_allclose(found.influence_T[::20] / 300, moved, rtol=0.05, atol=3e-5)


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
    chunk=st.integers(1, 9),
)
def test_scale_and_offset_of_bold_and_prediction_do_not_count(
    scale: float, offset: float, chunk: int
) -> None:
    scan = rows()
    changed = ScanRows(
        *(scan.subject, scan.stimulus, scan.tr_T),
        scale * (scan.prediction_TV - offset),
        scale * (scan.bold_TV + offset),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influence, "_UNITS_AT_A_TIME", chunk)
        found = scan_influence(changed)
    expected = scan_influence(scan)
    np.testing.assert_allclose(found.pearson_V, expected.pearson_V, atol=1e-9)
    np.testing.assert_allclose(found.influence_T, expected.influence_T, atol=1e-8)


def test_constant_and_missing_units_are_those_of_the_other_scores() -> None:
    scan = rows()
    scan.prediction_TV[:, 1] = 3.0
    scan.bold_TV[:, 2] = 7.0
    scan.bold_TV[5, 4] = np.nan
    found = scan_influence(scan)
    assert found.pearson_V[1] == 0
    np.testing.assert_array_equal(
        np.isnan(found.pearson_V), [False, False, True, False, True] + [False] * 2
    )
    kept = [0, 1, 3, 5, 6]
    few = ScanRows("01", "film", scan.tr_T, scan.prediction_TV[:, kept], scan.bold_TV[:, kept])
    np.testing.assert_allclose(found.influence_T, scan_influence(few).influence_T, atol=1e-12)


def test_mean_is_over_scans_then_subjects_as_that_of_the_sums() -> None:
    scans = [rows("01", "a"), rows("01", "b", n=90, seed=1), rows("02", "a", seed=2)]
    mean = mean_r([scan_influence(scan) for scan in scans])
    sums = ScanSums([scan.subject for scan in scans], 7)
    for index, scan in enumerate(scans):
        sums.add(index, scan.prediction_TV, scan.bold_TV)
    assert mean.value == pytest.approx(sums.compute().summary()["pearson_mean"], abs=1e-12)
    assert abs(mean.series.sum()) < 1e-9
    # A film TR that both subjects have is one place, of both their influences.
    films = {name: {tr for s in scans if s.stimulus == name for tr in s.tr_T} for name in "ab"}
    assert len(mean.series) == sum(map(len, films.values()))
    first, last = (scan_influence(scans[index]) for index in (0, 2))
    place, stretch = mean.places[0], mean.stretches[0]
    assert place[0] == "a"
    expected = [
        (first.influence_T[first.tr_T == tr].sum() / 2 + last.influence_T[last.tr_T == tr].sum())
        / (2 * 300)
        for tr in range(place[1], place[1] + len(stretch))
    ]
    np.testing.assert_allclose(stretch, expected, atol=1e-15)


def test_what_cannot_be_scored_is_refused() -> None:
    scan = rows()
    with pytest.raises(InputError, match="must be \\(TRs, units\\)"):
        ScanRows("01", "film", scan.tr_T, scan.prediction_TV[:, :3], scan.bold_TV)
    with pytest.raises(InputError, match="ascend"):
        ScanRows("01", "film", scan.tr_T[::-1], scan.prediction_TV, scan.bold_TV)
    with pytest.raises(InputError, match="no unit varies over 300 TRs"):
        scan_influence(ScanRows("01", "film", scan.tr_T, scan.prediction_TV, scan.bold_TV * 0))
    scan.prediction_TV[3, 3] = np.inf
    with pytest.raises(InputError, match="prediction of subject 01, film: found NaN"):
        scan_influence(scan)
    with pytest.raises(InputError, match="found no scan"):
        mean_r([])
    one, other = (mean_r([scan_influence(rows(seed=seed))]) for seed in (0, 1))
    with pytest.raises(InputError, match="scored on different TRs"):
        _ = one - other
