"""Rows on simulated truth: the bar that banded ridge sets, until the temporal model is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from claims import WAITS, Claim, Options, spread
from noise import Floats
from simulated import Simulated, Truth, read_peaks, simulate
from simulated_ridge import fit_ridge, pearson, predict

DELAYS = (9, 12)
FIRST_TRY: Mapping[Truth, str] = {
    "linear": "0.505, 0.519",
    "shared products": "0.367, 0.377",
    "own products": "0.362",
}
"""Banded ridge of SCIENCE.md's first try, on data that were simulated otherwise; seeds 0 and 1."""


def linear(options: Options) -> Iterator[Claim]:
    """Yield ridge's score where truth is linear in the parts, and when its responses peak."""
    yield from _bar("linear", "encoder >= ridge + 0.04", options)
    yield Claim("peaks of responses, encoder", "within 0.5 s", WAITS)


def interaction(options: Options) -> Iterator[Claim]:
    """Yield ridge's score where half of the variance is in products of sound and picture."""
    yield from _bar("shared products", "encoder >= ridge + 0.06", options)
    yield Claim("its own linear form", "encoder >= it + 0.025", WAITS)
    yield from _bar("own products", "", options)


def subjects(options: Options) -> Iterator[Claim]:
    """Yield ridge jointly and alone, where tuning is shared by 0, 50 and 100 %.

    Two subjects saw the same film: what ridge finds from both is what it finds from their mean.
    """
    for shared in (0.0, 0.5, 1.0):
        joint, alone = [], []
        for seed in options.seeds:
            options.say(f"subjects, {shared:.0%} shared: seed {seed}")
            data = simulate(options.size, seed, "linear", ("01", "02"), shared)
            mean = np.mean(list(data.bold.values()), axis=0)
            alone.append(float(np.mean([_test(data, {n: b}, 0) for n, b in data.bold.items()])))
            joint.append(float(np.mean([_test(data, {n: mean}, 0) for n in data.bold])))
        found = f"ridge jointly {spread(joint)}, alone {spread(alone)}"
        asked = "joint >= alone - 0.01" if shared == 0 else "joint > alone"
        yield Claim(f"tuning shared by {shared:.0%}", asked, found)


def new_subject(options: Options) -> Iterator[Claim]:
    """Yield ridge on 20 % of a subject's training TRs, and on all."""
    few, whole = [], []
    for seed in options.seeds:
        options.say(f"a new subject: seed {seed}")
        data = simulate(options.size, seed)
        few.append(_test(data, data.bold, options.weightings, 0.2))
        whole.append(_test(data, data.bold, 0))
    found = f"banded ridge on 20 % {spread(few)}, ridge on all {spread(whole)}"
    yield Claim("a new subject's 20 %", "new head > alone", found)


def _bar(truth: Truth, asked: str, options: Options) -> Iterator[Claim]:
    """Yield the test r of the number of delays that validation prefers, and of both."""
    tests: dict[int, list[float]] = {n: [] for n in DELAYS}
    better, peaks = [], []
    for seed in options.seeds:
        data = simulate(options.size, seed, truth)
        scores = {}
        for n in DELAYS:
            options.say(f"{truth}: seed {seed}, {n} delays")
            model = fit_ridge(data.parts, data.bold, data.size.sets["train"], n, options.weightings)
            val, test = (
                float(pearson(predict(model, data.parts, trs), data.bold["01"][trs]).mean())
                for trs in (data.size.sets["val"], data.size.sets["test"])
            )
            tests[n].append(test)
            scores[n] = val, test, _peak_error(data, model.weights[0].numpy())
        _, test, error = max(scores.values())
        better.append(test)
        peaks.append(error)
    each = ", ".join(f"{n} delays {np.mean(values):.3f}" for n, values in tests.items())
    found = f"banded ridge {spread(better)}: {each}; first try: {FIRST_TRY[truth]}"
    yield Claim(f"truth: {truth}", asked, found)
    if truth == "linear":
        yield Claim("peaks of responses, ridge", "", f"off by {spread(peaks, 2)} s")


def _peak_error(data: Simulated, weights_VLF: np.ndarray) -> float:
    return float(np.abs(read_peaks(weights_VLF) - data.peak_V).mean())


def _test(
    data: Simulated, fitted_to: Mapping[str, np.ndarray], weightings: int, part: float = 1.0
) -> float:
    """Return the test r of ridge with 9 delays that one subject's training TRs, or part, gave."""
    ((subject, bold),) = fitted_to.items()
    train = slice(0, round(part * data.size.train))
    scale = bold[train].std(0)
    model = fit_ridge(
        data.parts, {subject: (bold - bold[train].mean(0)) / scale}, train, DELAYS[0], weightings
    )
    trs = data.size.sets["test"]
    measured: Floats = data.bold[subject][trs]
    return float(pearson(predict(model, data.parts, trs), measured).mean())
