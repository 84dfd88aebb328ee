"""Rows on simulated truth: the encoder with memory beside banded ridge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from claims import Claim, Options, spread
from noise import Floats
from simulated import Simulated, Truth, read_peaks, simulate
from simulated_encoder import (
    DEFAULT,
    PRODUCTS,
    first_part,
    fit_encoder,
    fit_new_subject,
    impulse_responses,
    score,
)
from simulated_ridge import fit_ridge, pearson, predict

DELAYS = (9, 12)
FEW = 0.2
OVER, OVER_BY_PRODUCTS, OVER_LINEAR = 0.04, 0.06, 0.025
PEAKS_SECONDS, ROUND = 0.5, 0.01


def linear(options: Options) -> Iterator[Claim]:
    """Yield scores where truth is linear in the parts, and when responses peak."""
    ridge = _ridge("linear", options)
    found, peaks = [], []
    for seed in options.seeds:
        options.say(f"linear: seed {seed}, encoder")
        data = simulate(options.size, seed)
        model = fit_encoder(data, DEFAULT, seed)
        found.append(score(model, data))
        peaks.append(peak_error(data, impulse_responses(model, data)))
    over = _difference(found, ridge.test)
    text = f"encoder {spread(found)}, {ridge.text}"
    yield Claim("truth: linear", f"encoder >= ridge + {OVER}", text, OVER - over)
    text = f"off by {spread(peaks, 2)} s; ridge's by {spread(ridge.peaks, 2)} s"
    missed = float(np.mean(peaks)) - PEAKS_SECONDS
    yield Claim("peaks of responses", f"within {PEAKS_SECONDS} s", text, missed)


def interaction(options: Options) -> Iterator[Claim]:
    """Yield scores where half of the variance is in products of sound and picture."""
    ridge = _ridge("shared products", options)
    products: list[float] = []
    linear: list[float] = []
    for seed in options.seeds:
        data = simulate(options.size, seed, "shared products")
        for form, found in ((PRODUCTS, products), (DEFAULT, linear)):
            options.say(f"shared products: seed {seed}, encoder")
            found.append(score(fit_encoder(data, form, seed), data))
    over = _difference(products, ridge.test)
    text = f"encoder {spread(products)}, {ridge.text}"
    yield Claim(
        "truth: shared products",
        f"encoder >= ridge + {OVER_BY_PRODUCTS}",
        text,
        OVER_BY_PRODUCTS - over,
    )
    over = _difference(products, linear)
    text = f"its linear form {spread(linear)}"
    yield Claim("its own linear form", f"encoder >= it + {OVER_LINEAR}", text, OVER_LINEAR - over)
    yield Claim("truth: own products", "", _ridge("own products", options).text)


def subjects(options: Options) -> Iterator[Claim]:
    """Yield encoders of two subjects jointly, and of each alone, by how much tuning they share."""
    for shared in (0.0, 0.5, 1.0):
        joint, alone = [], []
        for seed in options.seeds:
            options.say(f"subjects, {shared:.0%} shared: seed {seed}")
            data = simulate(options.size, seed, "linear", ("01", "02"), shared)
            joint.append(score(fit_encoder(data, DEFAULT, seed), data))
            each = [replace(data, bold={name: bold}) for name, bold in data.bold.items()]
            alone.append(float(np.mean([score(fit_encoder(o, DEFAULT, seed), o) for o in each])))
        over = _difference(joint, alone)
        asked = "joint >= alone - 0.01" if shared == 0 else "joint > alone"
        missed = -over - (ROUND if shared == 0 else 0)
        text = f"jointly {spread(joint)}, alone {spread(alone)}"
        yield Claim(f"tuning shared by {shared:.0%}", asked, text, missed)


def new_subject(options: Options) -> Iterator[Claim]:
    """Yield a new head on the trunk of another subject, from 20 % of the data, and that alone.

    Subjects share half of their tuning.
    """
    heads, alone, ridge = [], [], []
    for seed in options.seeds:
        options.say(f"a new subject: seed {seed}")
        data = simulate(options.size, seed, "linear", ("01", "02"), 0.5)
        other, own = (replace(data, bold={name: data.bold[name]}) for name in ("01", "02"))
        heads.append(score(fit_new_subject(other, own, FEW, seed), own))
        few = first_part(own, FEW)
        alone.append(score(fit_encoder(few, DEFAULT, seed), few))
        ridge.append(_test(own, own.bold, options.weightings, FEW))
    text = f"new head {spread(heads)}, alone {spread(alone)}, banded ridge {spread(ridge)}"
    over = float(np.mean(heads)) - max(float(np.mean(alone)), float(np.mean(ridge)))
    yield Claim(f"a new subject's {FEW:.0%}", "new head > alone", text, -over)


@dataclass(frozen=True)
class _Bar:
    """What banded ridge reaches, by seed, with the number of delays that validation prefers."""

    test: Sequence[float]
    peaks: Sequence[float]
    text: str


def _ridge(truth: Truth, options: Options) -> _Bar:
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
            scores[n] = val, test, peak_error(data, model.weights[0].numpy())
        _, test, error = max(scores.values())
        better.append(test)
        peaks.append(error)
    each = ", ".join(f"{n} delays {np.mean(values):.3f}" for n, values in tests.items())
    return _Bar(better, peaks, f"banded ridge {spread(better)}: {each}")


def _difference(found: Sequence[float], beside: Sequence[float]) -> float:
    return float(np.mean(found) - np.mean(beside))


def peak_error(data: Simulated, weights_VLF: np.ndarray) -> float:
    """Return by how much the peaks of units' responses are off (s), the mean over units."""
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
