"""Scores per scan: against scipy and scikit-learn, over any partition, and under other BOLD."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import run_ranks
from sklearn.metrics import mean_squared_error, r2_score

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores

SUBJECTS = ("01", "02", "01", "03")
N_TRS = (57, 31, 20, 0)
V = 9
Rows = list[tuple[torch.Tensor, torch.Tensor]]


def rows_of(n_units: tuple[int, ...] = (V,) * 4) -> Rows:
    """Prediction and BOLD of each scan."""
    noise = torch.Generator().manual_seed(0)
    rows = []
    for n, units in zip(N_TRS, n_units, strict=True):
        target = torch.randn(n, units, generator=noise)
        rows.append((0.4 * target + torch.randn(n, units, generator=noise), target))
    return rows


def sums_of(rows: Rows) -> ScanSums:
    sums = ScanSums(SUBJECTS, [target.shape[1] for _, target in rows])
    for scan, pair in enumerate(rows):
        sums.add(scan, *pair)
    return sums


def pearson(prediction: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    p, t = prediction.double().numpy(), target.double().numpy()
    return np.array([scipy.stats.pearsonr(p[:, v], t[:, v]).statistic for v in range(p.shape[1])])


def assert_same(found: HeldOutScores, expected: HeldOutScores, rtol: float = 1e-11) -> None:
    for one, other in zip(found.scans, expected.scans, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_allclose(one.pearson_V, other.pearson_V, rtol=rtol, atol=1e-11)
            np.testing.assert_allclose(one.r2_V, other.r2_V, rtol=rtol, atol=1e-11)
    assert found.summary() == pytest.approx(expected.summary(), rel=rtol)


def test_scores_of_a_scan_are_those_of_scipy_and_scikit_learn() -> None:
    rows = rows_of()
    scores = sums_of(rows).compute()
    assert scores.scans[3] is None
    for (prediction, target), found in zip(rows[:3], scores.scans[:3], strict=True):
        assert found is not None
        p, t = prediction.double().numpy(), target.double().numpy()
        np.testing.assert_allclose(found.pearson_V, pearson(prediction, target), rtol=1e-12)
        np.testing.assert_allclose(found.r2_V, r2_score(t, p, multioutput="raw_values"), rtol=1e-12)
        assert found.mse == pytest.approx(mean_squared_error(t, p), rel=1e-12)
        assert found.n_trs == len(t)


def test_scans_are_averaged_within_a_subject_and_then_subjects() -> None:
    """Not TRs: a subject of many scans and TRs counts no more than another."""
    rows = rows_of()
    r = [pearson(*pair) for pair in rows[:3]]
    scores = sums_of(rows).compute()
    assert scores.subjects.keys() == {"01", "02"}
    np.testing.assert_allclose(scores.subjects["01"].pearson_V, (r[0] + r[2]) / 2, rtol=1e-12)
    assert scores.mean is not None
    mean = ((r[0] + r[2]) / 2 + r[1]) / 2
    np.testing.assert_allclose(scores.mean.pearson_V, mean, rtol=1e-12)
    summary = scores.summary()
    assert summary["pearson_mean"] == pytest.approx(mean.mean(), rel=1e-12)
    assert summary["pearson_median"] == pytest.approx(np.median(mean), rel=1e-12)
    assert summary["pearson_p95"] == pytest.approx(np.percentile(mean, 95), rel=1e-12)
    errors = torch.cat([(p.double() - t.double()).square().flatten() for p, t in rows])
    assert summary["mse"] == pytest.approx(float(errors.mean()), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    scale=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    means=st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
)
def test_r_is_the_same_whatever_the_scale_and_offset_of_a_scans_bold(
    scale: list[float], means: list[float]
) -> None:
    """Means in units of the scan's SD; BOLD in float64, which is what is tested here."""
    rows = rows_of()
    changed = [
        (p, a * (t.double() + b))
        for (p, t), a, b in zip(rows, [*scale, 1.0], [*means, 0.0], strict=True)
    ]
    found, expected = sums_of(changed).compute(), sums_of(rows).compute()
    for one, other in zip(found.scans[:3], expected.scans[:3], strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.pearson_V, other.pearson_V, atol=1e-10)
    assert found.summary()["pearson_mean"] == pytest.approx(
        expected.summary()["pearson_mean"], abs=1e-10
    )


def test_twenty_of_a_thousand_added_to_one_scan_moves_no_r() -> None:
    rows = rows_of()
    bold = [(p, 1000 + 10 * t) for p, t in rows]
    shifted = [*bold[:2], (bold[2][0], bold[2][1] + 20), bold[3]]
    scores = [sums_of(each).compute().summary()["pearson_mean"] for each in (bold, shifted)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    pooled = [pearson(*map(torch.cat, zip(*each, strict=True))).mean() for each in (bold, shifted)]
    assert abs(pooled[0] - pooled[1]) > 0.05  # what one sum over all scans would have said


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 57), max_size=6), folds=st.integers(1, 3))
def test_any_partition_over_batches_and_folds_gives_the_scores_of_the_whole(
    cuts: list[int], folds: int
) -> None:
    rows = [(p + 1e4, t + 1e4) for p, t in rows_of()]
    shares = [ScanSums(SUBJECTS, V) for _ in range(folds)]
    for index, (start, stop) in enumerate(itertools.pairwise([0, *sorted(cuts), 57])):
        for scan, (p, t) in enumerate(rows):
            shares[index % folds].add(scan, p[start:stop], t[start:stop])
    for share in shares[1:]:
        shares[0].merge(share)
    assert_same(shares[0].compute(), sums_of(rows).compute())


def _sums_of_a_rank(rank: int, bounds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    sums = ScanSums(SUBJECTS, V)
    for scan, (p, t) in enumerate(rows_of()):
        mine = slice(bounds[rank], bounds[rank + 1])
        sums.add(scan, (p + 50)[mine], t[mine])
    sums.reduce()
    return sums.n_S, sums.moments_KU


def test_ranks_that_share_the_trs_get_the_sums_of_one_process() -> None:
    """Unequally many each, one of them none at all."""
    found = run_ranks(3, _sums_of_a_rank, [0, 25, 25, 57])
    whole = sums_of([(p + 50, t) for p, t in rows_of()])
    for n_S, moments_KU in found:
        np.testing.assert_array_equal(n_S, N_TRS)
        np.testing.assert_allclose(moments_KU, whole.moments_KU, rtol=1e-12, atol=1e-12)


def test_half_precision_rows_are_summed_in_float64() -> None:
    rows = rows_of()
    low = [(p.bfloat16(), t.half()) for p, t in rows]
    again = [(p.double(), t.double()) for p, t in low]
    assert_same(sums_of(low).compute(), sums_of(again).compute(), rtol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, -37.3, 1e-8])
def test_constant_prediction_scores_zero(constant: float) -> None:
    rows = rows_of()
    rows[0][0][:, 4] = constant
    sums = ScanSums(("01",), V)
    for some in torch.arange(57).split(17):
        sums.add(0, rows[0][0][some], rows[0][1][some])
    scores = sums.compute().subjects["01"]
    assert scores.pearson_V[4] == 0
    p, t = (each.double().numpy()[:, 4] for each in rows[0])
    assert scores.r2_V[4] == pytest.approx(r2_score(t, p), rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -37.3])
def test_unit_of_constant_bold_in_one_scan_is_scored_in_the_others(constant: float) -> None:
    rows = rows_of()
    rows[0][1][:, 4] = constant
    scores = sums_of(rows).compute()
    assert scores.scans[0] is not None
    assert np.isnan(scores.scans[0].pearson_V[4])
    assert np.isnan(scores.scans[0].r2_V[4])
    (first,) = pearson(*(each[:, 4:5] for each in rows[2]))
    assert scores.subjects["01"].pearson_V[4] == pytest.approx(first, rel=1e-12)
    (second,) = pearson(*(each[:, 4:5] for each in rows[1]))
    assert scores.mean is not None
    assert scores.mean.pearson_V[4] == pytest.approx((first + second) / 2, rel=1e-12)


def test_unit_masked_in_one_subject_stays_in_the_others_and_may_hold_anything() -> None:
    rows = rows_of()
    rows[1][1][:, 2], rows[1][0][5, 2] = np.nan, np.inf
    masks = [np.ones(V, bool) for _ in rows]
    masks[1][2] = False
    scores = sums_of(rows).compute(masks)
    assert np.isnan(scores.subjects["02"].pearson_V[2])
    assert scores.mean is not None
    assert scores.mean.pearson_V[2] == scores.subjects["01"].pearson_V[2]
    kept = rows_of()
    expected = sums_of(kept).compute(torch.tensor(masks[1]))
    assert np.isnan(expected.subjects["01"].pearson_V[2])
    assert expected.subjects["02"].mse == pytest.approx(scores.subjects["02"].mse)


def test_subjects_of_other_unit_numbers_are_averaged_by_their_own_means() -> None:
    rows = rows_of((9, 4, 9, 7))
    scores = sums_of(rows).compute()
    assert scores.mean is None
    r = [pearson(*pair) for pair in rows[:3]]
    own = [(r[0] + r[2]) / 2, r[1]]
    summary = scores.summary()
    assert summary["pearson_mean"] == pytest.approx(np.mean([each.mean() for each in own]))
    assert summary["pearson_p95"] == pytest.approx(
        np.mean([np.percentile(each, 95) for each in own])
    )


def test_perfect_prediction_scores_exactly_one() -> None:
    scores = sums_of([(t, t) for _, t in rows_of()]).compute()
    assert scores.mean is not None
    np.testing.assert_allclose(scores.mean.pearson_V, 1, rtol=1e-14)
    assert scores.mean.pearson_V.max() <= 1
    np.testing.assert_array_equal(scores.mean.r2_V, 1)
    assert scores.mean.mse == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_are_refused_and_never_replaced(value: float) -> None:
    for index, name in ((0, "prediction"), (1, "BOLD")):
        rows = rows_of()
        rows[1][index][3, 7] = value
        match = f"{name} of scan 1 of subject 02: found NaN or infinity in 1 of 9 .*unit 7"
        with pytest.raises(InputError, match=match):
            sums_of(rows).compute()


def test_what_cannot_be_scored_is_refused() -> None:
    p, t = rows_of()[0]
    with pytest.raises(InputError, match="held-out TRs: found 0"):
        ScanSums(SUBJECTS, V).compute()
    sums = ScanSums(SUBJECTS, V)
    sums.add(0, p, t)
    sums.add(1, p[:1], t[:1])
    with pytest.raises(InputError, match="subject 02: no unit that counts varies over the 1 TRs"):
        sums.compute()
    with pytest.raises(InputError, match="subject 01: no unit that counts"):
        sums.compute(torch.zeros(V, dtype=torch.bool))
    for shapes in [((5, 8), (5, 8)), ((5, 9), (4, 9)), ((9,), (9,))]:
        with pytest.raises(InputError, match="found shapes"):
            sums.add(0, *map(torch.zeros, shapes))
    for valid in (torch.ones(8, dtype=torch.bool), torch.ones(9)):
        with pytest.raises(InputError, match="valid: found"):
            sums.compute(valid)
    for n_units in (0, [9, 9, 8, 9]):
        with pytest.raises(InputError, match="n_units: found"):
            ScanSums(SUBJECTS, n_units)
    with pytest.raises(InputError, match="scan sums: found scans of"):
        sums.merge(ScanSums(SUBJECTS, 3))
