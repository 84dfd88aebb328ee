"""What members predict of validation TRs, weighed a scan at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.models.stack.weights import Sums, Weights, find_weights
from giblet_ray.promotion.validation import Predicted

M, V, GAP_TRS = 3, 11, 7
SCANS = {
    ScanKey("01", "one"): range(40, 95),
    ScanKey("01", "one", 2): range(41, 90, 2),
    ScanKey("01", "two"): range(10, 43),
}


@pytest.fixture
def predicted(tmp_path: Path) -> Predicted:
    """Scans of other lengths, one with gaps, whose BOLD has offsets and gains of its own."""
    random = np.random.default_rng(0)
    lengths = [len(trs) for trs in SCANS.values()]
    scan_N = np.repeat(np.arange(len(SCANS)), lengths)
    signal_NV = random.normal(size=(len(scan_N), V))
    predicted_MNV = np.memmap(tmp_path / "predicted", np.float32, "w+", shape=(M, len(scan_N), V))
    predicted_MNV[:] = signal_NV + random.normal(size=predicted_MNV.shape) * [[[1]], [[2]], [[3]]]
    bold_NV = np.memmap(tmp_path / "bold", np.float32, "w+", shape=signal_NV.shape)
    bold_NV[:] = (1 + scan_N)[:, None] * (signal_NV + random.normal(size=signal_NV.shape) + 5)
    tr_N = np.concatenate([list(trs) for trs in SCANS.values()])
    return Predicted(tuple(SCANS), scan_N, tr_N, predicted_MNV, bold_NV)


def whole(predicted: Predicted) -> Weights:
    """Find the weights from all rows at once."""
    p_MNV, b_NV = (np.array(of, np.float64) for of in (predicted.predicted_MNV, predicted.bold_NV))
    for scan in range(len(SCANS)):
        rows = predicted.scan_N == scan
        p_MNV[:, rows] -= p_MNV[:, rows].mean(1, keepdims=True)
        b_NV[rows] = (b_NV[rows] - b_NV[rows].mean(0)) / b_NV[rows].std(0)

    def sums(rows: np.ndarray) -> Sums:
        return Sums.of(torch.from_numpy(p_MNV[:, rows]), torch.from_numpy(b_NV[rows]))

    folds = predicted.folds(GAP_TRS)
    assert folds
    return find_weights(
        sums(np.arange(len(b_NV))), [(sums(fit), sums(rows)) for fit, rows in folds]
    )


def test_weights_are_those_of_all_rows_and_a_scan_is_in_memory(
    predicted: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, added, of = whole(predicted), [], Sums.of

    def adding(predicted_MNV: Tensor, bold_NV: Tensor) -> Sums:
        added.append(len(bold_NV))
        return of(predicted_MNV, bold_NV)

    monkeypatch.setattr(Sums, "of", adding)
    monkeypatch.setattr("giblet_ray.promotion.validation._UNITS_AT_A_TIME", 4)
    found = predicted.find_weights(GAP_TRS)
    assert max(added) == max(map(len, SCANS.values()))
    assert found.shrinkage == wanted.shrinkage
    torch.testing.assert_close(found.own_VM, wanted.own_VM, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.folds_KVM, wanted.folds_KVM, rtol=0, atol=1e-7)


def test_each_scan_is_stacked_by_weights_found_without_its_trs(predicted: Predicted) -> None:
    weights, folds = whole(predicted), predicted.folds(GAP_TRS)
    each = list(predicted.stacked(weights, GAP_TRS))
    assert [stacked_TV.shape for stacked_TV in each] == [(len(trs), V) for trs in SCANS.values()]
    stacked_NV = np.concatenate(each)
    for (_, rows), weights_VM in zip(folds, weights.folds_KVM.numpy(), strict=True):
        wanted_NV = np.einsum("vm,mnv->nv", weights_VM, predicted.predicted_MNV[:, rows])
        np.testing.assert_allclose(stacked_NV[rows], wanted_NV, atol=1e-5)
