"""The loss: against plain formulas, over ranks, and where correlation is not defined."""

import numpy as np
import pytest
import scipy.stats
import torch
from ranks import run_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from giblet_ray.errors import InputError
from giblet_ray.training.encoding_loss import EncodingLoss


def batch(rows=13, voxels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(rows, voxels, generator=generator)
    prediction = 0.5 * target + torch.randn(rows, voxels, generator=generator)
    return prediction.requires_grad_(), target


def loss_of(valid, weight=0.0):
    """A loss whose voxels are valid in all rows alike, or row by row."""
    loss = EncodingLoss(weight)
    return lambda prediction, target, rows: loss(
        prediction, target, torch.as_tensor(valid).expand(prediction.shape), rows
    )


def everywhere(voxels):
    return torch.ones(voxels, dtype=torch.bool)


def test_loss_is_the_plain_formula_over_the_valid_voxels():
    prediction, target = batch()
    valid = torch.tensor([True, True, False, True, False, True])
    terms = loss_of(valid, 0.3)(prediction, target, 13)
    p, t = prediction.detach().numpy()[:, valid], target.numpy()[:, valid]
    pearson = [scipy.stats.pearsonr(p[:, v], t[:, v]).statistic for v in range(4)]
    assert terms.mse.item() == pytest.approx(((p - t) ** 2).mean(), rel=1e-6)
    assert terms.correlation_loss.item() == pytest.approx(1 - np.mean(pearson), rel=1e-5)
    expected = ((p - t) ** 2).mean() + 0.3 * (1 - np.mean(pearson))
    assert terms.loss.item() == pytest.approx(expected, rel=1e-6)
    assert terms.objective.item() == pytest.approx(expected, rel=1e-6)
    assert not terms.loss.requires_grad


def test_voxels_of_different_subjects_correlate_apart():
    """Of three subjects with 5, 3 and 4 voxels and a fourth without a row; parts of both add up."""
    prediction, target = batch(rows=13, voxels=5)
    subject = torch.tensor([2, 0, 0, 1, 2, 1, 0, 2, 0, 1, 2, 1, 0])
    valid = torch.arange(5) < torch.tensor([5, 3, 4])[subject][:, None]
    terms = EncodingLoss(0.4, n_subjects=4)(prediction, target, valid, 13, subject)
    p, t = prediction.detach().double().numpy(), target.double().numpy()
    errors = [((p - t) ** 2)[n, :k].mean() for n, k in enumerate(valid.sum(1).tolist())]
    assert terms.mse.item() == pytest.approx(np.mean(errors), rel=1e-6)
    of_subjects = []
    for index, n_voxels in enumerate((5, 3, 4)):
        rows = (subject == index).numpy()
        r = [scipy.stats.pearsonr(p[rows, v], t[rows, v]).statistic for v in range(n_voxels)]
        of_subjects.append(1 - np.mean(r))
    assert terms.correlation_loss.item() == pytest.approx(np.mean(of_subjects), rel=1e-5)
    terms.objective.backward()
    gradient, prediction.grad = prediction.grad, None
    assert not gradient[~valid].any()
    alone = EncodingLoss(0.4)(prediction, target, valid, 13)
    assert alone.correlation_loss.item() != pytest.approx(np.mean(of_subjects), rel=1e-2)
    # A subject's gradient is that of its rows alone, in proportion to what it counts for.
    rows = subject == 1
    assert rows.sum() == 4
    of_mse, of_all = (
        torch.autograd.grad(
            EncodingLoss(w)(prediction[rows], target[rows], valid[rows], 4).objective, prediction
        )[0]
        for w in (0.0, 1.0)
    )
    expected = of_mse * 4 / 13 + 0.4 / 3 * (of_all - of_mse)
    torch.testing.assert_close(gradient[rows], expected[rows], rtol=1e-4, atol=1e-7)


def test_voxel_counts_in_the_rows_of_subjects_in_which_it_is_valid():
    """Of three subjects; one voxel is valid in none of the rows, another in a single row."""
    prediction, target = batch(rows=12, voxels=5)
    valid = torch.ones(12, 5, dtype=torch.bool)
    valid[4:8, 1], valid[:, 3], valid[1:, 4] = False, False, False
    rows = prediction.detach().double().numpy(), target.double().numpy()
    errors = [((p - t) ** 2)[v].mean() for p, t, v in zip(*rows, valid.numpy(), strict=True)]
    pearson = [scipy.stats.pearsonr(*(each[valid[:, v], v] for each in rows))[0] for v in range(3)]
    terms = EncodingLoss(0.4)(prediction, target, valid, 12)
    assert terms.mse.item() == pytest.approx(np.mean(errors), rel=1e-6)
    expected = np.mean([1 - r for r in [*pearson, 0]])
    assert terms.correlation_loss.item() == pytest.approx(expected, rel=1e-5)
    terms.objective.backward()
    assert (prediction.grad[~valid] == 0).all()
    assert (prediction.grad[valid] != 0).all()


def test_gradient_is_that_of_the_plain_formula():
    prediction, target = batch()
    loss_of(everywhere(6), 0.7)(prediction, target, 13).objective.backward()
    plain = prediction.detach().double().requires_grad_()
    pearson = torch.stack(
        [torch.corrcoef(torch.stack([plain[:, v], target[:, v].double()]))[0, 1] for v in range(6)]
    )
    ((plain - target).square().mean() + 0.7 * (1 - pearson).mean()).backward()
    torch.testing.assert_close(prediction.grad.double(), plain.grad, rtol=1e-5, atol=1e-7)


def test_correlation_is_exact_for_predictions_far_from_zero():
    prediction, target = batch(rows=64)
    far = (prediction.detach() + 1000).double()
    expected = np.mean([scipy.stats.pearsonr(far[:, v], target[:, v])[0] for v in range(6)])
    found = 1 - loss_of(everywhere(6), 1.0)(far, target, 64).correlation_loss.item()
    assert found == pytest.approx(expected, abs=1e-4)


def test_half_precision_predictions_are_scored_in_float32():
    prediction, target = batch()
    low = prediction.detach().bfloat16()
    terms = loss_of(everywhere(6), 0.5)(low, target.half(), 13)
    again = loss_of(everywhere(6), 0.5)(low.float(), target.half().float(), 13)
    assert terms.loss.dtype == torch.float32
    torch.testing.assert_close(terms.loss, again.loss, rtol=0, atol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, -37.3])
@pytest.mark.parametrize("of", ["prediction", "target"])
def test_constant_voxel_correlates_zero_and_has_no_gradient_through_correlation(constant, of):
    prediction, target = batch(rows=100)
    values = {"prediction": prediction.detach().clone(), "target": target.clone()}
    values[of][:, 2] = constant
    prediction = values["prediction"].requires_grad_()
    with_correlation = loss_of(everywhere(6), 1.0)(prediction, values["target"], 100)
    (gradient,) = torch.autograd.grad(with_correlation.objective, prediction)
    mse_alone = loss_of(everywhere(6))(prediction, values["target"], 100)
    (mse_gradient,) = torch.autograd.grad(mse_alone.objective, prediction)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[:, 2], mse_gradient[:, 2])
    others = [v for v in range(6) if v != 2]
    five = loss_of(everywhere(5), 1.0)(prediction[:, others], values["target"][:, others], 100)
    expected = (5 * five.correlation_loss + 1) / 6
    torch.testing.assert_close(with_correlation.correlation_loss, expected)


def test_single_row_has_no_correlation_and_a_finite_gradient():
    prediction, target = batch(rows=1)
    terms = loss_of(everywhere(6), 1.0)(prediction, target, 1)
    terms.objective.backward()
    assert terms.correlation_loss.item() == 1
    assert torch.isfinite(prediction.grad).all()


def test_invalid_voxels_may_hold_anything():
    prediction, target = batch()
    valid = torch.tensor([True, False, True, True, True, True])
    clean = loss_of(valid, 0.5)(prediction, target, 13)
    target = target.clone()
    target[:, 1] = float("nan")
    terms = loss_of(valid, 0.5)(prediction, target, 13)
    torch.testing.assert_close(terms.loss, clean.loss, rtol=0, atol=0)
    terms.objective.backward()
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[:, 1] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_non_finite_prediction_gives_a_non_finite_loss(value, weight):
    prediction, target = batch()
    broken = prediction.detach().clone()
    broken[3, 4] = value
    terms = loss_of(everywhere(6), weight)(broken, target, 13)
    assert not torch.isfinite(terms.loss)


def test_accumulated_parts_add_up_to_the_batch():
    prediction, target = batch(rows=11)
    loss = loss_of(everywhere(6), 0.0)
    whole = loss(prediction, target, 11)
    (expected,) = torch.autograd.grad(whole.objective, prediction)
    parts = [loss(prediction[rows], target[rows], 11) for rows in (slice(0, 7), slice(7, 11))]
    (found,) = torch.autograd.grad(sum(part.objective for part in parts), prediction)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts[0].loss + parts[1].loss, whole.loss)
    assert whole.correlation_loss is None

    loss = loss_of(everywhere(6), 1.0)
    shares = [loss(prediction[rows], target[rows], 11) for rows in (slice(0, 7), slice(7, 11))]
    alone = [
        loss(prediction[rows], target[rows], rows.stop - rows.start)
        for rows in (slice(0, 7), slice(7, 11))
    ]
    torch.testing.assert_close(
        shares[0].correlation_loss + shares[1].correlation_loss,
        (7 * alone[0].correlation_loss + 4 * alone[1].correlation_loss) / 11,
    )


def _terms_of_a_rank(rank, model, batch_of_all, bounds, weights):
    """Per correlation weight: the terms of a rank's rows, and the gradients that DDP leaves."""
    rows, results = slice(*bounds[rank : rank + 2]), {}
    features, target, valid = (each[rows] for each in batch_of_all)
    for weight in weights:
        model.zero_grad()
        parallel = DistributedDataParallel(model)
        terms = EncodingLoss(weight)(parallel(features), target, valid, bounds[-1])
        terms.objective.backward()
        gradients = [each.grad.clone() for each in model.parameters()]
        results[weight] = (terms.loss, terms.mse, terms.correlation_loss, gradients)
    return results


def test_ranks_with_ragged_rows_get_the_loss_and_gradient_of_one_process():
    torch.manual_seed(0)
    n_rows, n_features, n_voxels, bounds, weights = 11, 4, 5, [0, 7, 11, 11], [0.0, 0.7]
    features, target = torch.randn(n_rows, n_features), torch.randn(n_rows, n_voxels)
    valid = torch.rand(n_rows, n_voxels) < 0.8
    valid[:, 2], valid[:, 3] = False, True
    model = nn.Linear(n_features, n_voxels)
    results = run_ranks(3, _terms_of_a_rank, model, (features, target, valid), bounds, weights)
    for weight in weights:
        terms = loss_of(valid, weight)(model(features), target, n_rows)
        gradients = torch.autograd.grad(terms.objective, list(model.parameters()))
        for result in results:
            loss, mse, correlation_loss, found_gradients = result[weight]
            torch.testing.assert_close(loss, terms.loss)
            torch.testing.assert_close(mse, terms.mse)
            if weight:
                torch.testing.assert_close(correlation_loss, terms.correlation_loss)
            for found, expected in zip(found_gradients, gradients, strict=True):
                torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-0.1, "correlation_weight: found -0.1"),
        (float("nan"), "correlation_weight: found nan"),
    ],
)
def test_bad_argument_is_refused(weight, message):
    with pytest.raises(InputError, match=message):
        EncodingLoss(weight)


@pytest.mark.parametrize(
    ("target_shape", "global_rows", "message"),
    [((4, 3), 5, "target and valid"), ((5, 2), 5, "target and"), ((5, 3), 4, "global_rows")],
)
def test_batch_that_does_not_fit_is_refused(target_shape, global_rows, message):
    with pytest.raises(InputError, match=message):
        loss_of(everywhere(3))(torch.zeros(5, 3), torch.zeros(target_shape), global_rows)
