"""Metrics of one's own: per scan, over units, the same however many ranks share the rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from ranks import run_ranks

from giblet_ray.errors import InputError
from giblet_ray.evaluation import own_metrics
from giblet_ray.evaluation.own_metrics import HeldOutRows, load_metrics

SUBJECTS = ["01", "01", "02"]
N_TRS = (13, 8, 21)
VALID = torch.tensor([[True, True, False, True, True]] * 2 + [[True, False, False, True, True]])
"""Unit 1 counts in the first subject alone, unit 2 in none."""


def pearson(prediction_TV: np.ndarray, target_TV: np.ndarray) -> np.ndarray:
    """r of each unit, NaN where BOLD does not vary."""
    p, t = prediction_TV - prediction_TV.mean(0), target_TV - target_TV.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (p * t).sum(0) / np.sqrt((p**2).sum(0) * (t**2).sum(0))


def rows() -> tuple[torch.Tensor, ...]:
    """Scan, TR, prediction and target of all rows, out of order."""
    random = np.random.default_rng(0)
    scan = np.repeat(np.arange(3), N_TRS)
    tr = np.concatenate([np.arange(n) for n in N_TRS])
    target = random.normal(size=(len(scan), 5)).astype(np.float32)
    prediction = (0.5 * target + random.normal(size=target.shape)).astype(np.float32)
    target[scan == 1, 3] = 0  # never varies in this scan: it counts in the other ones
    order = random.permutation(len(scan))
    return tuple(torch.from_numpy(each[order]) for each in (scan, tr, prediction, target))


def expected() -> float:
    scan, tr, prediction, target = (each.numpy() for each in rows())
    of_scan = []
    for index in range(3):
        here = np.flatnonzero(scan == index)
        here = here[np.argsort(tr[here])]
        of_scan.append([
            scipy.stats.pearsonr(prediction[here, v], target[here, v]).statistic
            if VALID[index, v] and np.ptp(target[here, v]) else math.nan
            for v in range(5)
        ])  # fmt: skip
    of_subject = [np.nanmean(of_scan[:2], axis=0), of_scan[2]]
    return float(np.nanmean(of_subject, axis=0)[[0, 1, 3, 4]].mean())


def computed(part: slice) -> float:
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"))
    for start in range(part.start, part.stop, 4):
        held.add(*(each[start : min(start + 4, part.stop)] for each in rows()))
    return held.compute({"val/pearson": pearson}, VALID)["val/pearson"]


def test_a_metric_is_a_mean_over_scans_subjects_and_units() -> None:
    assert computed(slice(0, sum(N_TRS))) == pytest.approx(expected(), abs=1e-6)


def test_units_that_subjects_do_not_share_are_averaged_before_subjects() -> None:
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"), units_are_shared=False)
    scan, tr, prediction, target = rows()
    for index, n_units in enumerate((5, 5, 2)):  # the second subject has two units
        of_scan = scan == index
        both = (each[of_scan, :n_units] for each in (prediction, target))
        held.add(scan[of_scan], tr[of_scan], *both)
    valid = torch.tensor([[True] * 5] * 2 + [[True, True, False, False, False]])
    found = []
    for index, n_units in enumerate((5, 5, 2)):
        p, t = prediction[scan == index], target[scan == index]
        found.append(pearson(p.numpy(), t.numpy())[:n_units])
    wanted = np.mean([np.nanmean(found[:2], axis=0).mean(), found[2].mean()])
    assert held.compute({"val/r": pearson}, valid)["val/r"] == pytest.approx(wanted, abs=1e-6)


def test_rows_come_in_the_order_of_their_trs() -> None:
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"))
    held.add(*rows())
    scan, tr, _, target = rows()
    wanted = {len(target[scan == s]): target[scan == s][tr[scan == s].argsort()] for s in range(3)}

    def look(prediction_TV: np.ndarray, target_TV: np.ndarray) -> np.ndarray:
        n_trs, n_units = target_TV.shape
        counts_V = VALID[N_TRS.index(n_trs)]
        np.testing.assert_array_equal(target_TV, wanted[n_trs][:, counts_V].numpy())
        return np.ones(n_units)

    assert held.compute({"val/look": look}, VALID) == {"val/look": 1.0}


def _metric_of_a_rank(rank: int, bounds: list[int]) -> float:
    own_metrics.BYTES_AT_A_TIME = 2 * 8 * sum(N_TRS)  # two units at a time, of five
    return computed(slice(bounds[rank], bounds[rank + 1]))


def test_ranks_that_share_the_rows_agree() -> None:
    """Unequally many each, one of them none at all."""
    found = run_ranks(3, _metric_of_a_rank, [0, 5, 5, sum(N_TRS)])
    assert len({*found}) == 1
    assert found[0] == pytest.approx(expected(), abs=1e-6)


def test_a_metric_without_a_number_per_unit_is_refused() -> None:
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"))
    held.add(*rows())
    with pytest.raises(InputError, match=r"mean returned a shape of \(\) for 4 units"):
        held.compute({"val/mean": lambda p, t: np.mean(p)}, VALID)


def test_a_metric_sees_no_unit_that_does_not_count() -> None:
    """Nothing is predicted of it when a test is judged: many functions take no NaN."""
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"))
    scan, tr, prediction, target = rows()
    held.add(scan, tr, torch.where(VALID[scan], prediction, math.nan), target)

    def finite(prediction_TV: np.ndarray, target_TV: np.ndarray) -> np.ndarray:
        if not np.isfinite(prediction_TV).all():
            raise ValueError("Input contains NaN")
        return pearson(prediction_TV, target_TV)

    found = held.compute({"val/finite": finite}, VALID)["val/finite"]
    assert found == pytest.approx(expected(), abs=1e-6)
    assert math.isnan(held.compute({"val/r": finite}, torch.zeros_like(VALID))["val/r"])


def test_rows_are_joined_for_some_units_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All units of all rows together would be in memory twice."""
    held = HeldOutRows(SUBJECTS, 5, torch.device("cpu"))
    for each in zip(*(of.split(7) for of in rows()), strict=True):
        held.add(*each)
    whole, joined = torch.cat, []

    def cat(pieces: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
        joined.append(whole(pieces, dim=dim))
        return joined[-1]

    monkeypatch.setattr(torch, "cat", cat)
    monkeypatch.setattr(own_metrics, "BYTES_AT_A_TIME", 8 * sum(N_TRS) * 2)
    assert held.compute({"val/r": pearson}, VALID)["val/r"] == pytest.approx(expected(), abs=1e-6)
    assert [rows_2NU.shape[2] for rows_2NU in joined if rows_2NU.ndim == 3] == [2, 2, 1]


def test_metrics_are_loaded_by_the_name_of_their_function() -> None:
    (name,) = load_metrics(["scipy.stats:spearmanr"], ["scipy"])
    assert name == "val/spearmanr"
    with pytest.raises(InputError, match="e: is no function"):
        load_metrics(["math:e"], ["math"])
    with pytest.raises(InputError, match="add --packages math"):
        load_metrics(["math:e"], [])
