"""The table of what a model must reach: every row is there, on data whose truth is as it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from claims import Claim, Options
from noise import TR_SECONDS
from science import ROWS, demo
from script import run_script
from simulated import PEAK_SECONDS, Size, read_peaks, response, simulate
from simulated_encoder import fit_encoder, impulse_responses
from simulated_ridge import predict

SMALL = Size(train=2000, val=60, test=80, units=30, parts=3, features=8)


@pytest.mark.heavy
def test_every_row_is_printed_with_what_is_asked_and_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_script("benchmarks/science.py", "--share", 0.01, "--seeds", 1, "--weightings", 2)
    said = capsys.readouterr().out
    assert len(ROWS) == 12
    for name in ("r, scipy", "R2, himalaya", "split scores", "ceiling, 2", "ceiling, 4"):
        assert re.search(rf"│ {name}.*│ met +│", said), name
    for split in ("blocks", "stimuli", "repeats", "folds"):
        assert re.search(rf"│ affine, {split} .*│ met +│", said)
    assert re.search(r"│ demo.*│ waits +│", said)
    for name in (
        "truth: linear",
        "peaks",
        "truth: shared",
        "its own linear",
        "tuning shared by 50%",
        "a new subject",
    ):
        assert re.search(rf"│ {name}.*│ (met|missed by [-0-9.e]+) +│", said), name
    for name in ("head: linear", "head: full 2,048", "960 training TRs, 40 epochs"):
        assert re.search(rf"│ {name}.*│ +│", said), name
    for name in ("mean test r", "p of a unit", "any discovery", "best of 2 trials"):
        assert re.search(rf"│ noise: {name}.*│ (met|missed by [-0-9.e]+) +│", said), name


def test_verdict_tells_by_how_much_a_row_is_missed() -> None:
    assert Claim("a", "r > 0.5", "0.48", 0.02).verdict == "missed by 0.02"
    assert Claim("a", "r > 0.5", "0.5", 0.0).verdict == "met"
    assert Claim("a", "r > 0.5", "nothing").verdict == "waits"
    assert Claim("a", "", "0.5").verdict == ""


def test_demo_is_held_against_banded_ridge_where_it_was_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / "demo/runs/evaluation/demo-0"
    folder.mkdir(parents=True)
    options = Options(demo=str(tmp_path / "demo"))
    assert [claim.verdict for claim in demo(options)] == ["waits", "waits"]
    scores = {"test/pearson_mean": 0.45, "test/ridge_pearson_mean": 0.5}
    (folder / "scores.json").write_text(json.dumps(scores))
    members = [
        {"name": "demo-0", "pearson_mean": 0.45, "difference": 0.04},
        {"name": "ridge-0", "pearson_mean": 0.48, "difference": 0.01},
    ]
    (tmp_path / "demo/runs/stack-0").mkdir()
    (tmp_path / "demo/runs/stack-0/members.json").write_text(json.dumps(members))
    first, stacked = demo(options)
    assert stacked.found == "stack-0: 0.4900; demo-0 0.4500, ridge-0 0.4800"
    assert stacked.verdict == "met"
    assert first.found == "demo-0: 0.4500 / 0.5000 = 0.900"
    assert first.verdict == "missed by 0.07"


def test_bold_has_the_ceiling_that_was_asked_for() -> None:
    data = simulate(SMALL, 0, subjects=("01", "02"))
    one, other = data.bold.values()
    r_V = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)]
    assert np.mean(r_V) == pytest.approx(SMALL.ceiling**2, abs=0.03)
    assert data.peak_V.min() > PEAK_SECONDS[0]
    assert data.peak_V.max() < PEAK_SECONDS[1]


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_subjects_share_as_much_of_their_tuning_as_was_asked(shared: float) -> None:
    size = replace(SMALL, ceiling=1.0, units=200)
    one, other = simulate(size, 1, subjects=("01", "02"), shared=shared).bold.values()
    r_V = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)]
    assert np.mean(r_V) == pytest.approx(shared, abs=0.06)


@pytest.mark.parametrize(
    ("truth", "explained"), [("linear", 1.0), ("shared products", 0.5), ("own products", 0.5)]
)
def test_so_much_of_the_signal_is_linear_in_the_parts(truth: str, explained: float) -> None:
    size = replace(SMALL, ceiling=1.0, units=12, features=4)
    data = simulate(size, 2, truth)  # type: ignore[arg-type]
    films = np.concatenate(list(data.parts.values()), axis=1)
    copies = [
        np.pad(films.astype(float), ((delay, 0), (0, 0)))[: len(films)] for delay in range(16)
    ]
    rows, bold = np.concatenate(copies, axis=1), data.bold["01"]
    rest = bold - rows @ np.linalg.solve(rows.T @ rows, rows.T @ bold)
    # As many numbers as are fitted explain their share of anything.
    free = 1 - rows.shape[1] / len(rows)
    assert 1 - rest.var() / bold.var() / free == pytest.approx(explained, abs=0.08)


def test_peaks_are_read_from_weights() -> None:
    peak_V = np.linspace(*PEAK_SECONDS, 9)
    taps_LV = response(TR_SECONDS * np.arange(12)[:, None], peak_V)
    features = np.random.default_rng(0).normal(size=(9, 5))
    weights_VLF = taps_LV.T[:, :, None] * features[:, None]
    np.testing.assert_allclose(read_peaks(weights_VLF), peak_V, atol=0.11)


def test_responses_to_impulses_are_those_of_a_linear_encoder() -> None:
    data = simulate(replace(SMALL, train=240), 3)
    model = fit_encoder(data, {"train": {"epochs": 1, "batch_trs": 64}}, 0)
    weights_VLF = impulse_responses(model, data)
    trs = data.size.sets["test"]
    rows = np.concatenate(list(data.parts.values()), axis=1)
    expected = sum(
        rows[trs.start - lag : trs.stop - lag] @ weights_VF.T
        for lag, weights_VF in enumerate(weights_VLF.transpose(1, 0, 2))
    )
    found = predict(model, data.parts, trs)
    np.testing.assert_allclose(found - found.mean(0), expected - expected.mean(0), atol=1e-4)
