"""Voxel metrics: against scipy and scikit-learn, over any partition of the rows, and refusals."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_squared_error, r2_score

from giblet_ray.errors import InputError
from giblet_ray.evaluation.metrics import VoxelSums


def rows_of(rows=57, voxels=9, seed=0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(rows, voxels, generator=generator)
    prediction = 0.4 * target + torch.randn(rows, voxels, generator=generator) + offset
    return prediction, target


def scored(prediction, target, valid=None):
    sums = VoxelSums(prediction.shape[1])
    sums.update(prediction, target)
    return sums.compute(valid)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_scores_are_those_of_scipy_and_scikit_learn(offset):
    prediction, target = rows_of(offset=offset)
    metrics = scored(prediction, target)
    p, t = prediction.double().numpy(), target.double().numpy()
    pearson = [scipy.stats.pearsonr(p[:, v], t[:, v]).statistic for v in range(9)]
    np.testing.assert_allclose(metrics.pearson_V, pearson, rtol=1e-9)
    np.testing.assert_allclose(metrics.r2_V, r2_score(t, p, multioutput="raw_values"), rtol=1e-12)
    summary = metrics.summary()
    assert summary == pytest.approx(
        {
            "pearson_mean": np.mean(pearson),
            "pearson_median": np.median(pearson),
            "pearson_p95": np.percentile(pearson, 95),
            "r2_mean": r2_score(t, p),
            "mse": mean_squared_error(t, p),
        },
        rel=1e-9,
    )
    assert metrics.n_rows == 57
    assert (metrics.n_constant_targets, metrics.n_constant_predictions) == (0, 0)


def test_correlation_is_over_rows_within_a_voxel():
    # Every row's pattern over voxels is predicted in full, and nothing of any voxel's course.
    pattern = torch.linspace(-5, 5, 40)
    noise = torch.Generator().manual_seed(0)
    target = pattern + torch.randn(300, 40, generator=noise)
    prediction = pattern + torch.randn(300, 40, generator=noise)
    assert abs(scored(prediction, target).summary()["pearson_mean"]) < 0.05


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 57), max_size=6), ranks=st.integers(1, 3))
def test_any_partition_over_batches_and_ranks_gives_the_scores_of_the_whole(cuts, ranks):
    prediction, target = rows_of()
    whole = scored(prediction, target)
    shares = [VoxelSums(9) for _ in range(ranks)]
    bounds = [0, *sorted(cuts), 57]
    for part, (start, stop) in enumerate(itertools.pairwise(bounds)):
        shares[part % ranks].update(prediction[start:stop], target[start:stop])
    merged = VoxelSums.from_tensor(torch.stack([share.tensor for share in shares]).sum(dim=0))
    metrics = merged.compute()
    np.testing.assert_allclose(metrics.pearson_V, whole.pearson_V, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(metrics.r2_V, whole.r2_V, rtol=1e-12, atol=1e-14)
    assert metrics.mse == pytest.approx(whole.mse, rel=1e-12)
    assert metrics.n_rows == 57


def test_half_precision_rows_are_summed_in_float64():
    prediction, target = rows_of()
    low = scored(prediction.bfloat16(), target.half())
    again = scored(prediction.bfloat16().double(), target.half().double())
    np.testing.assert_array_equal(low.pearson_V, again.pearson_V)


@pytest.mark.parametrize("constant", [0.0, 0.1, -37.3, 1e-8])
def test_constant_prediction_scores_zero_and_is_counted(constant):
    prediction, target = rows_of(rows=1000)
    prediction[:, 4] = constant
    sums = VoxelSums(9)
    for rows in torch.arange(1000).split(17):
        sums.update(prediction[rows], target[rows])
    metrics = sums.compute()
    assert metrics.pearson_V[4] == 0
    assert metrics.n_constant_predictions == 1
    t, p = target.double().numpy()[:, 4], prediction.double().numpy()[:, 4]
    assert metrics.r2_V[4] == pytest.approx(r2_score(t, p), rel=1e-9)


@pytest.mark.parametrize("constant", [0.0, 0.1, -37.3])
def test_voxel_of_constant_bold_is_left_out_and_counted(constant):
    prediction, target = rows_of()
    target[:, 4] = constant
    metrics = scored(prediction, target)
    assert np.isnan(metrics.pearson_V[4])
    assert np.isnan(metrics.r2_V[4])
    assert metrics.n_constant_targets == 1
    others = [v for v in range(9) if v != 4]
    rest = scored(prediction[:, others], target[:, others])
    for name, value in rest.summary().items():
        if name != "mse":
            assert metrics.summary()[name] == pytest.approx(value, rel=1e-12)
    assert metrics.mse == pytest.approx(float((prediction - target).double().square().mean()))


def test_only_valid_voxels_count_and_others_may_hold_anything():
    prediction, target = rows_of()
    valid = torch.ones(9, dtype=torch.bool)
    valid[[1, 6]] = False
    expected = scored(prediction[:, valid], target[:, valid])
    target[:, 1] = float("nan")
    prediction[5, 6] = float("inf")
    for mask in (valid, valid.numpy()):
        metrics = scored(prediction, target, mask)
        np.testing.assert_array_equal(np.isnan(metrics.pearson_V), ~valid.numpy())
        np.testing.assert_array_equal(metrics.pearson_V[valid], expected.pearson_V)
        assert metrics.summary() == pytest.approx(expected.summary())
        assert metrics.n_constant_targets == 0


def test_perfect_prediction_scores_exactly_one():
    _, target = rows_of()
    metrics = scored(target, target)
    np.testing.assert_allclose(metrics.pearson_V, 1, rtol=1e-14)
    assert metrics.pearson_V.max() <= 1
    np.testing.assert_array_equal(metrics.r2_V, 1)
    assert metrics.mse == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_numbers_are_refused_and_never_replaced(value):
    prediction, target = rows_of()
    broken = prediction.clone()
    broken[3, 7] = value
    with pytest.raises(InputError, match=r"prediction: found NaN or infinity in 1 of 9 .*voxel 7"):
        scored(broken, target)
    broken = target.clone()
    broken[3, 7] = value
    with pytest.raises(InputError, match=r"BOLD: found NaN or infinity in 1 of 9 .*voxel 7"):
        scored(prediction, broken)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_are_refused(rows):
    with pytest.raises(InputError, match=f"held-out rows: found {rows}"):
        scored(*rows_of(rows=rows))


def test_nothing_to_score_is_refused():
    prediction, target = rows_of()
    with pytest.raises(InputError, match="none of the 9 valid voxels varies"):
        scored(prediction, torch.zeros_like(target))
    with pytest.raises(InputError, match="none of the 0 valid voxels varies"):
        scored(prediction, target, torch.zeros(9, dtype=torch.bool))


def test_shapes_that_do_not_fit_are_refused():
    sums = VoxelSums(9)
    for prediction, target in [((5, 8), (5, 8)), ((5, 9), (4, 9)), ((9,), (9,))]:
        with pytest.raises(InputError, match="found shapes"):
            sums.update(torch.zeros(prediction), torch.zeros(target))
    sums.update(*rows_of())
    for valid in (torch.ones(8, dtype=torch.bool), torch.ones(9)):
        with pytest.raises(InputError, match="valid_V: found"):
            sums.compute(valid)
    for tensor in (torch.zeros(6, 9, dtype=torch.float64), torch.zeros(7, 9)):
        with pytest.raises(InputError, match="sums: found"):
            VoxelSums.from_tensor(tensor)
    with pytest.raises(InputError, match="n_voxels: found 0"):
        VoxelSums(0)
