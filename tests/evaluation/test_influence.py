"""Influence of TRs on a mean r: against leaving TRs out, and what it is invariant to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation import influence
from giblet_ray.evaluation.influence import ScanInfluence, ScanRows, mean_r, scan_influence
from giblet_ray.evaluation.scan_sums import ScanSums


def rows(
    subject: str = "01", stimulus: str = "film", n: int = 300, units: int = 7, seed: int = 0
) -> ScanRows:
    random = np.random.default_rng(seed)
    bold = random.normal(size=(n, units))
    predicted = bold * 0.5 + random.normal(size=(n, units))
    tr = np.sort(random.choice(n + 40, n, replace=False))
    return ScanRows(subject, stimulus, tr, torch.from_numpy(predicted), torch.from_numpy(bold))


def alone(scan: ScanRows) -> ScanInfluence:
    """A scan of which all units count alike."""
    n_units = scan.bold_TV.shape[1]
    return scan_influence(scan, np.full(n_units, 1 / n_units))


def unequal() -> list[ScanRows]:
    """Scans of three subjects, each with units of its own that are not scored."""
    scans = [rows("01", "a"), rows("01", "b", n=90, seed=1), rows("02", "a", seed=2)]
    scans.append(rows("03", "b", n=80, seed=3))
    scans[1].bold_TV[:, 0] = 3.0  # in one of its scans alone
    scans[2].bold_TV[:, 1:4] = 0.0
    scans[3].bold_TV[4, 2:5] = np.nan
    for scan in scans:
        scan.bold_TV[:, 6] = 0.0  # in none
    scans[0].prediction_TV[:, 5] = 2.0  # explains nothing
    return scans


def test_r_is_that_of_scipy_and_influence_that_of_counting_a_tr_twice() -> None:
    scan = rows()
    found = alone(scan)
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
    np.testing.assert_allclose(found.influence_T[::20], moved, rtol=0.05, atol=3e-5)


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
        found = alone(changed)
    expected = alone(scan)
    np.testing.assert_allclose(found.pearson_V, expected.pearson_V, atol=1e-9)
    np.testing.assert_allclose(found.influence_T, expected.influence_T, atol=1e-10)


def test_constant_and_missing_units_are_those_of_the_other_scores() -> None:
    scan = rows()
    scan.prediction_TV[:, 1] = 3.0
    scan.bold_TV[:, 2] = 7.0
    scan.bold_TV[5, 4] = np.nan
    found = alone(scan)
    assert found.pearson_V[1] == 0
    np.testing.assert_array_equal(
        np.isnan(found.pearson_V), [False, False, True, False, True] + [False] * 2
    )
    kept = [0, 1, 3, 5, 6]
    few = ScanRows("01", "film", scan.tr_T, scan.prediction_TV[:, kept], scan.bold_TV[:, kept])
    np.testing.assert_allclose(mean_r([scan]).series, mean_r([few]).series, atol=1e-12)


@pytest.mark.parametrize("n_subjects", [1, 3])
@pytest.mark.parametrize("are_shared", [True, False])
def test_mean_is_that_of_the_sums_whatever_is_scored_where(
    n_subjects: int, are_shared: bool
) -> None:
    scans = unequal()[: n_subjects + 1]
    sums = ScanSums([scan.subject for scan in scans], 7, units_are_shared=are_shared)
    for index, scan in enumerate(scans):
        sums.add(index, scan.prediction_TV, scan.bold_TV)
    scores = sums.compute([scan.bold_TV.isfinite().all(dim=0) for scan in scans])
    expected = scores.summary()["pearson_mean"]
    assert mean_r(scans, are_shared).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("are_shared", [True, False])
def test_influence_is_the_derivative_of_the_mean_whatever_is_scored_where(
    are_shared: bool,
) -> None:
    scans = unequal()

    def mean(stimulus: str, tr: int, more: float) -> float:
        """With r of rows of which one film TR counts for a little more."""
        of_subject: dict[str, list[np.ndarray]] = {}
        for scan in scans:
            weight_T = 1 + more * ((scan.tr_T == tr) & (scan.stimulus == stimulus))
            r_V = np.full(7, np.nan)
            for v, (p, b) in enumerate(zip(scan.prediction_TV.T, scan.bold_TV.T, strict=True)):
                (pp, pb), (_, bb) = np.cov(p.numpy(), b.numpy(), aweights=weight_T)
                if bb > 1e-9:
                    r_V[v] = pb / np.sqrt(pp * bb) if pp > 1e-9 else 0
            of_subject.setdefault(scan.subject, []).append(r_V)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a unit that is scored nowhere
            each_SV = [np.nanmean(of_scans, axis=0) for of_scans in of_subject.values()]
            by_unit = np.nanmean(np.nanmean(each_SV, axis=0))
            return float(by_unit if are_shared else np.mean(np.nanmean(each_SV, axis=1)))

    found = mean_r(scans, are_shared)
    assert found.value == pytest.approx(mean("a", 0, 0.0), abs=1e-12)
    for (stimulus, first), stretch in list(zip(found.places, found.stretches, strict=True))[::9]:
        moved = (mean(stimulus, first, 1e-5) - mean(stimulus, first, -1e-5)) / 2e-5
        assert stretch[0] == pytest.approx(moved, rel=1e-4, abs=1e-9)


def test_influence_is_of_film_trs_whoever_saw_them() -> None:
    scans = [rows("01", "a"), rows("01", "b", n=90, seed=1), rows("02", "a", seed=2)]
    mean = mean_r(scans)
    assert abs(mean.series.sum()) < 1e-9
    # A film TR that both subjects have is one place, of both their influences.
    films = {name: {tr for s in scans if s.stimulus == name for tr in s.tr_T} for name in "ab"}
    assert len(mean.series) == sum(map(len, films.values()))
    first, last = (alone(scans[index]) for index in (0, 2))
    place, stretch = mean.places[0], mean.stretches[0]
    assert place[0] == "a"
    expected = [
        (first.influence_T[first.tr_T == tr].sum() / 2 + last.influence_T[last.tr_T == tr].sum())
        / 2
        for tr in range(place[1], place[1] + len(stretch))
    ]
    np.testing.assert_allclose(stretch, expected, atol=1e-15)


def test_what_cannot_be_scored_is_refused() -> None:
    scan = rows()
    with pytest.raises(InputError, match="must be \\(TRs, units\\)"):
        ScanRows("01", "film", scan.tr_T, scan.prediction_TV[:, :3], scan.bold_TV)
    with pytest.raises(InputError, match="ascend"):
        ScanRows("01", "film", scan.tr_T[::-1], scan.prediction_TV, scan.bold_TV)
    flat = ScanRows("02", "film", scan.tr_T, scan.prediction_TV, scan.bold_TV * 0)
    with pytest.raises(InputError, match="BOLD of subject 02: no unit varies"):
        mean_r([scan, flat])
    scan.prediction_TV[3, 3] = np.inf
    with pytest.raises(InputError, match="prediction of subject 01, film: found NaN"):
        mean_r([scan])
    with pytest.raises(InputError, match="found no scan"):
        mean_r([])
    one, other = (mean_r([rows(seed=seed)]) for seed in (0, 1))
    with pytest.raises(InputError, match="scored on different TRs"):
        _ = one - other
