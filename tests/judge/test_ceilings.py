"""Ceilings of test TRs, of runs on scans whose signal and noise are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.errors import InputError
from giblet_ray.evaluation.ceiling import shared_ceiling
from giblet_ray.judge.ceilings import Ceilings, Rows, plan_ceilings
from giblet_ray.judge.opened import open_run
from giblet_ray.judge.rows import all_rows

SCANS = [
    ScanKey(subject, film, repeat)
    for film in ("one", "two")
    for subject in ("01", "02")
    for repeat in (1, 2)
]


@pytest.fixture(scope="module")
def rows(lab: Path) -> Rows:
    return all_rows(open_run(str(lab / "runs/first")))


def ceilings(wanted: str, rows: Rows) -> Ceilings:
    return plan_ceilings(wanted, list(rows), 24, 14, 0)(rows)


@pytest.mark.parametrize("how", ["repeats", "split_half"])
def test_a_ceiling_from_repeats_is_near_what_was_made(rows: Rows, how: str) -> None:
    """Signal of SD 10 * |mixing| / 2 beside noise of SD 5."""
    found = ceilings(how, rows)
    mixing = np.random.default_rng(0).normal(size=(4, 24))
    signal = 25 * np.square(mixing).sum(axis=0)
    true_V = np.sqrt(signal / (signal + 25))
    for subject in ("01", "02"):
        assert np.abs(found.own[subject].ceiling_V - true_V).mean() < 0.1
        assert (found.own[subject].p_V <= 0.05).mean() > 0.7


@pytest.mark.parametrize("how", ["repeats", "split_half"])
def test_offset_and_scale_of_a_scan_change_no_ceiling(rows: Rows, how: str) -> None:
    random = np.random.default_rng(0)
    changed = {
        scan: replace(each, bold_TV=each.bold_TV * random.uniform(0.5, 2) + 3 * random.normal())
        for scan, each in rows.items()
    }
    expected, found = (ceilings(how, each).own["01"] for each in (rows, changed))
    np.testing.assert_allclose(found.ceiling_V, expected.ceiling_V, atol=1e-5)


def test_a_shared_ceiling_bounds_what_was_made_and_divides_nothing(rows: Rows) -> None:
    """Two subjects with the same signal: the first scan of each, at the TRs that both have."""
    late = {**rows}
    scan = rows[SCANS[0]]
    late[SCANS[0]] = type(scan)(
        scan.subject, scan.stimulus, scan.tr_T[5:], scan.prediction_TV[5:], scan.bold_TV[5:]
    )
    found = ceilings("subjects", late)
    assert found.own == {}
    stacked = [
        np.stack([np.asarray(rows[ScanKey(s, film, 1)].bold_TV) for s in ("01", "02")])
        for film in ("one", "two")
    ]
    bounds = [shared_ceiling(torch.from_numpy(bold)) for bold in (stacked[0][:, 5:], stacked[1])]
    for index, subject in enumerate(("01", "02")):
        low_V, high_V = found.shared[subject]
        for values, name in ((low_V, "lower_SV"), (high_V, "upper_SV")):
            expected = np.mean([getattr(each, name)[index] for each in bounds], axis=0)
            np.testing.assert_allclose(values, expected, atol=1e-12)
        assert (low_V < high_V).all()


def test_a_film_that_one_subject_saw_has_no_shared_ceiling() -> None:
    alone = [scan for scan in SCANS if scan.stimulus == "one" or scan.subject == "02"]
    with pytest.raises(InputError, match="film two was seen by subject 02 alone"):
        plan_ceilings("subjects", alone, 24, 14, 0)
    once = [scan for scan in SCANS if scan.repeat == 1]
    with pytest.raises(InputError, match="subject 01 saw the test TRs of a film once"):
        plan_ceilings("repeats", once, 24, 14, 0)


def test_a_known_ceiling_divides_and_one_of_other_units_is_refused(
    rows: Rows, tmp_path: Path
) -> None:
    np.save(tmp_path / "known.npy", np.full(24, 0.5))
    ceiling = ceilings(str(tmp_path / "known.npy"), rows).own["01"]
    np.testing.assert_array_equal(ceiling.normalised(np.full(24, 0.25)), np.full(24, 0.5))
    np.save(tmp_path / "other.npy", np.full(25, 0.5))
    with pytest.raises(InputError, match=r"other.npy: found shape \(25,\); the run predicts 24"):
        ceilings(str(tmp_path / "other.npy"), rows)
    np.save(tmp_path / "more.npy", np.full(24, 1.5))
    with pytest.raises(InputError, match=r"more.npy: found 1.5 to 1.5; ceilings of r, 0 to 1"):
        ceilings(str(tmp_path / "more.npy"), rows)
    with pytest.raises(InputError, match=r"absent.npy: not a readable .npy file"):
        ceilings(str(tmp_path / "absent.npy"), rows)
