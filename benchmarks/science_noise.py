"""Rows on BOLD that has nothing to do with the film: fitted, tested, and selected on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.stats
import torch
from claims import Claim, Options, spread
from local_trials import train_trial
from noise import LEAST_TRS, Floats, smooth
from random_dataset import write_random_dataset
from simulated import Size, simulate
from simulated_ridge import fit_ridge, pearson, predict

from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.null import Null, draw_shifts, shift_null

TEST_TRS = 1000
N_TRIALS = 12
NEAR_0 = 0.005


def noise(options: Options) -> Iterator[Claim]:
    """Yield the mean test r, p of one unit, and discoveries, of ridge that was fitted to noise."""
    n_sets, means = options.of(20), []
    for seed in options.seeds:
        found = []
        for index in range(n_sets):
            options.say(f"noise: seed {seed}, data set {index} of {n_sets}")
            size = replace(options.size, train=600, val=60, test=TEST_TRS)
            found.append(float(np.mean(pearson(*_fitted(size, seed * n_sets + index)))))
        means.append(float(np.mean(found)))
    text = f"{spread(means, 4, '+')}, each of {n_sets} data sets"
    yield Claim("noise: mean test r", f"0 within {NEAR_0}", text, max(map(abs, means)) - NEAR_0)

    p, discovered = [], []
    for index in range(options.of(500)):
        options.say(f"noise: p of data set {index} of {options.of(500)}")
        size = Size(train=300, val=60, test=TEST_TRS, units=60, parts=1, features=10)
        null = _null(*_fitted(size, index, width=6.0), index)
        p_V = null.p_values()
        p.append(p_V[0])
        discovered.append(bool((adjusted_p(p_V) <= 0.05).any()))
    test = scipy.stats.kstest(p, "uniform")
    text = f"KS p = {test.pvalue:.2f}; {np.mean(np.array(p) <= 0.05):.3f} of {len(p)} <= 0.05"
    yield Claim("noise: p of a unit", "uniform (KS p > 0.01)", text, 0.01 - test.pvalue)
    discovered = discovered[: options.of(400)]
    text = f"{np.mean(discovered):.3f} of {len(discovered)} data sets"
    missed = float(np.mean(discovered)) - 0.072
    yield Claim("noise: any discovery, q = 0.05", "<= 0.072", text, missed)


def _fitted(size: Size, seed: int, width: float = 0.0) -> tuple[Floats, Floats]:
    """Return what ridge that was fitted to noise predicts of the test TRs, and their BOLD."""
    data = simulate(size, seed, "noise", width=width)
    model = fit_ridge(data.parts, data.bold, size.sets["train"], 9, 0)
    trs = size.sets["test"]
    return predict(model, data.parts, trs), data.bold["01"][trs]


def _null(prediction: Floats, bold: Floats, seed: int) -> Null:
    shifts = draw_shifts(["film"], [len(bold)], LEAST_TRS, 1000, seed)
    return shift_null([torch.from_numpy(prediction)], [torch.from_numpy(bold)], shifts)


def selection(options: Options) -> Iterator[Claim]:
    """Yield validation r of the best of 12 trials' best epochs on noise, and its test r."""
    chosen, tested = [], []
    n_trs, n_units = max(360, round(600 * options.share)), options.size.units
    n_trials = options.of(N_TRIALS, least=2)
    for seed in options.seeds:
        random = np.random.default_rng([seed, 12])
        bold = (1000 + 10 * smooth(random, n_trs, n_units, 4.5)).astype(np.float32)
        with tempfile.TemporaryDirectory() as name:
            write_random_dataset(f"{name}/data", n_trs, n_units, ("text",), bold)
            trials = []
            for number in range(n_trials):
                options.say(f"selection: seed {seed}, trial {number} of {n_trials}")
                settings = {
                    "optimizer.lr": float(10 ** random.uniform(-3.5, -1.5)),
                    "model.dropout": float(random.uniform(0, 0.5)),
                    "train.seed": number,
                }
                trials.append(train_trial(Path(name), number, settings))
            best = max(trials, key=lambda trial: trial.val)
            chosen.append(best.val)
            tested.append(best.test())
    text = f"validation r {spread(chosen)}, its test r {spread(tested)}"
    asked = f"validation r > {NEAR_0}"
    yield Claim(f"noise: best of {n_trials} trials", asked, text, NEAR_0 - min(chosen))
