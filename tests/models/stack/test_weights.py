"""Convex weights of members, beside scipy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import Tensor

from giblet_ray.models.stack.weights import Sums, find_weights, non_negative, pearson

N, V = 240, 37


def members(
    seed: int, quality: list[Any], n: int = N, v: int = V, gain: Any = 1.0
) -> tuple[Tensor, Tensor]:
    """Members that see so much of a signal each, with errors of their own, and BOLD of r 0.7."""
    random = np.random.default_rng(seed)
    signal_NV = random.normal(size=(n, v))
    predicted = [
        q * signal_NV + np.sqrt(1 - np.square(q)) * random.normal(size=(n, v)) for q in quality
    ]
    bold_NV = 0.7 * signal_NV + np.sqrt(1 - 0.49) * random.normal(size=(n, v))
    gains_M = np.broadcast_to(gain, len(quality))[:, None, None]
    both = np.stack(predicted) * gains_M, bold_NV
    return tuple(torch.from_numpy(each - each.mean(axis=-2, keepdims=True)) for each in both)  # type: ignore[return-value]


def folded(
    predicted_MNV: Tensor, bold_NV: Tensor, n_folds: int = 4, gap: int = 5
) -> tuple[Sums, list[tuple[Sums, Sums]]]:
    every, folds = torch.arange(len(bold_NV)), []
    for rows in every.chunk(n_folds):
        far = every[(every < rows[0] - gap) | (every > rows[-1] + gap)]
        folds.append(
            (Sums.of(predicted_MNV[:, far], bold_NV[far]),
             Sums.of(predicted_MNV[:, rows], bold_NV[rows]))
        )  # fmt: skip
    return Sums.of(predicted_MNV, bold_NV), folds


def r_of(weights_VM: Tensor, predicted_MNV: Tensor, bold_NV: Tensor) -> np.ndarray:
    stacked_NV = torch.einsum("vm,mnv->nv", weights_VM, predicted_MNV)
    return np.array([np.corrcoef(stacked_NV[:, v], bold_NV[:, v])[0, 1] for v in range(V)])


@pytest.mark.parametrize("quality", [[0.5, 0.6], [0.8, 0.2, 0.0, 0.5, 0.7]])
def test_non_negative_least_squares_are_scipys(quality: list[float]) -> None:
    predicted_MNV, bold_NV = members(0, quality)
    sums = Sums.of(predicted_MNV, bold_NV)
    found_VM = non_negative(sums.gram_VMM, sums.cross_VM)
    wanted = [scipy.optimize.nnls(predicted_MNV[:, :, v].T, bold_NV[:, v])[0] for v in range(V)]
    np.testing.assert_allclose(found_VM, np.stack(wanted), atol=1e-6)
    assert (np.stack(wanted) == 0).any() == (0.0 in quality)


def test_no_other_convex_weights_have_a_greater_r() -> None:
    predicted_MNV, bold_NV = members(1, [0.5, 0.6, 0.1], gain=[1, 0.3, 2])
    sums = Sums.of(predicted_MNV, bold_NV)
    found_VM = non_negative(sums.gram_VMM, sums.cross_VM)
    found_VM /= found_VM.sum(1, keepdim=True)
    found_V = r_of(found_VM, predicted_MNV, bold_NV)
    np.testing.assert_allclose(pearson([sums], [found_VM]), found_V, atol=1e-12)
    for v in range(5):

        def loss(w_M: np.ndarray, v: int = v) -> float:
            w = torch.from_numpy(w_M)[None].expand(V, -1)
            return -float(pearson([sums], [w])[v])

        best = scipy.optimize.minimize(
            loss, np.full(3, 1 / 3), method="SLSQP", bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14},
        )  # fmt: skip
        assert found_V[v] == pytest.approx(-best.fun, abs=1e-7)
        np.testing.assert_allclose(found_VM[v], best.x, atol=1e-3)


def test_weights_are_convex_and_those_of_equal_members_predict_as_they_do() -> None:
    predicted_MNV, bold_NV = members(2, [0.6])
    three_MNV = predicted_MNV.expand(3, -1, -1)
    found = find_weights(*folded(three_MNV, bold_NV))
    for weights in (found.own_VM, found.folds_KVM, found.common_M):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    stacked_NV = torch.einsum("vm,mnv->nv", found.own_VM, three_MNV)
    torch.testing.assert_close(stacked_NV, predicted_MNV[0])


@pytest.mark.parametrize("gain", [1.0, [3.0, 0.5]], ids=["calibrated", "too sure of itself"])
def test_a_member_of_noise_carries_next_to_nothing(gain: Any) -> None:
    predicted_MNV, bold_NV = members(3, [0.8, 0.0], n=600, gain=gain)
    found = find_weights(*folded(predicted_MNV, bold_NV))
    assert found.common_M[1] < 0.01 * float(np.divide(*np.broadcast_to(gain, 2)))
    share_V = found.own_VM[:, 1] * predicted_MNV[1].std() / predicted_MNV[0].std()
    assert share_V.mean() < 0.05


def test_units_alike_are_shrunk_to_the_common_weights_and_units_that_differ_are_not() -> None:
    alike = find_weights(*folded(*members(4, [0.7, 0.4])))
    assert alike.shrinkage >= 0.8
    good_V = np.where(np.arange(V) % 2, 0.9, 0.0)
    apart = find_weights(*folded(*members(4, [good_V, 0.9 - good_V])))
    assert apart.shrinkage <= 0.2
    assert (apart.own_VM[1::2, 0] > 0.8).all()
    assert (apart.own_VM[::2, 1] > 0.8).all()
    assert (apart.common_M - 0.5).abs().max() < 0.1


def test_without_folds_all_units_have_the_common_weights() -> None:
    every, _ = folded(*members(5, [0.7, 0.4]))
    found = find_weights(every, [])
    assert found.shrinkage == 1
    assert found.folds_KVM.shape == (0, V, 2)
    torch.testing.assert_close(found.own_VM, found.common_M.expand(V, -1))


def test_units_that_no_member_predicts_have_the_common_weights() -> None:
    predicted_MNV, bold_NV = members(6, [0.7, 0.4])
    predicted_MNV[:, :, 3] = 0  # masked
    bold_NV[:, 3] = 0
    bold_NV[:, 5] = -predicted_MNV[:, :, 5].sum(0)
    found = find_weights(*folded(predicted_MNV, bold_NV))
    for unit in (3, 5):
        torch.testing.assert_close(found.own_VM[unit], found.common_M)
    assert torch.isfinite(found.own_VM).all()
    nobody = find_weights(*folded(predicted_MNV[:, :, 5:6], bold_NV[:, 5:6]))
    assert nobody.common_M.tolist() == [0.5, 0.5]


def test_weights_of_a_fold_do_not_know_its_bold() -> None:
    predicted_MNV, bold_NV = members(7, [0.6, 0.5])
    changed_NV = bold_NV.clone()
    changed_NV[:60] = torch.randn(60, V, generator=torch.Generator().manual_seed(0))
    one, other = (find_weights(*folded(predicted_MNV, each)) for each in (bold_NV, changed_NV))
    assert one.shrinkage == other.shrinkage
    torch.testing.assert_close(one.folds_KVM[0], other.folds_KVM[0])
    assert not torch.allclose(one.folds_KVM[1], other.folds_KVM[1])


def test_a_stack_is_better_on_other_rows_than_each_of_its_members() -> None:
    predicted_MNV, bold_NV = members(8, [0.5, 0.6, 0.3], n=2 * N)
    fitted, judged = slice(0, N), slice(N, None)
    found = find_weights(*folded(predicted_MNV[:, fitted], bold_NV[fitted]))
    new = predicted_MNV[:, judged], bold_NV[judged]
    alone = [r_of(one_M.expand(V, -1), *new).mean() for one_M in torch.eye(3).double()]
    assert r_of(found.own_VM, *new).mean() > max(alone) + 0.05


def test_sums_of_units_join() -> None:
    predicted_MNV, bold_NV = members(9, [0.5, 0.6])
    whole = Sums.of(predicted_MNV, bold_NV)
    parts = (Sums.of(predicted_MNV[:, :, u], bold_NV[:, u]) for u in (slice(0, 20), slice(20, V)))
    joined = Sums.joined(parts)
    for name in ("gram_VMM", "cross_VM", "square_V"):
        torch.testing.assert_close(getattr(joined, name), getattr(whole, name))
