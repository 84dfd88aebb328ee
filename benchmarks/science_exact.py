"""Rows that hold for any numbers: scores of others, affine changes, and ceilings that are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import himalaya.scoring
import numpy as np
import scipy.stats
import torch
from claims import Claim, Options, spread
from noise import LEAST_TRS, Floats, smooth

from giblet_ray.dataset.config import SplitConfig
from giblet_ray.dataset.splits import draw_split
from giblet_ray.evaluation.ceiling import (
    explainable_ceiling,
    shared_ceiling,
    split_half_ceiling,
)
from giblet_ray.evaluation.partition import product_measure
from giblet_ray.evaluation.scan_sums import ScanSums

EXACT = 1e-6
TRUE_CEILING = 0.6
FILMS = {"one": 460, "two": 390, "three": 420}
SPLITS: dict[str, dict[str, Any]] = {
    "blocks": {},
    "stimuli": {"kind": "stimuli", "val_stimuli": ("two",), "test_stimuli": ("three",)},
    "repeats": {"kind": "repeats", "val_repeats": (2,), "test_repeats": (3,)},
    "folds": {"folds": 3, "fold": 2},
}


def ceilings(options: Options) -> Iterator[Claim]:
    """Yield estimated ceilings beside the true one, and bounds from subjects."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in options.seeds:
        options.say(f"ceilings: seed {seed}")
        for name, bounds in estimated_ceilings(seed).items():
            found.setdefault(name, []).append(bounds)
    for name, each in found.items():
        low, high = np.array(each).T
        if (low == high).all():
            missed = float(np.abs(low - TRUE_CEILING).max()) - 0.03
            yield Claim(f"ceiling, {name}", f"{TRUE_CEILING} within 0.03", spread(low), missed)
        else:
            missed = float(max((low - TRUE_CEILING).max(), (TRUE_CEILING - high).max()))
            text = f"{spread(low)} to {spread(high)}"
            yield Claim(name, f"{TRUE_CEILING} inside", text, missed)


def estimated_ceilings(seed: int) -> dict[str, tuple[float, float]]:
    """Return the mean ceiling of 400 units by each estimate, from one to another where bounds."""
    random = np.random.default_rng([seed, 6])
    signal = TRUE_CEILING * smooth(random, 600, 400, 6.0, 1.0)
    scale = np.sqrt(1 - TRUE_CEILING**2)
    bold = np.stack([signal + scale * smooth(random, 600, 400, 4.5, 1.0) for _ in range(4)])
    rows, found = torch.from_numpy(bold).float(), {}
    for n in (2, 4):
        for name, estimate in (("EV", explainable_ceiling), ("halves", split_half_ceiling)):
            mean = float(np.nanmean(estimate([rows[:n]], LEAST_TRS).ceiling_V))
            found[f"{n} repeats, {name}"] = mean, mean
    shared = shared_ceiling(rows)
    found["shared ceiling, 4 subjects"] = shared.lower_SV.mean(), shared.upper_SV.mean()
    return found


def others(options: Options) -> Iterator[Claim]:
    """Yield by how much r, R2 and split scores differ from scipy's and himalaya's."""
    apart: dict[str, float] = {}
    for seed in options.seeds:
        random = np.random.default_rng([seed, 13])
        n_trs, n_units = 600, options.size.units
        parts = np.stack([smooth(random, n_trs, n_units, 4.5) for _ in range(3)])
        bold = 1000 + 10 * (parts.sum(0) + smooth(random, n_trs, n_units, 6.0))
        prediction = 1000 + 8 * parts.sum(0)
        sums = ScanSums(["01"], n_units)
        for trs in np.array_split(np.arange(n_trs), 7):
            sums.add(0, torch.from_numpy(prediction[trs]), torch.from_numpy(bold[trs]))
        ours = sums.compute().subjects["01"]
        centred = bold - bold.mean(0)
        pairs = {
            "r, scipy": (ours.pearson_V, scipy.stats.pearsonr(prediction, bold, axis=0).statistic),
            "R2, himalaya": (ours.r2_V, himalaya.scoring.r2_score(bold, prediction)),
            "split scores, himalaya": (
                product_measure(torch.from_numpy(8 * parts), torch.from_numpy(bold)),
                himalaya.scoring.r2_score_split(centred, 8 * parts),
            ),
        }
        for name, (one, other) in pairs.items():
            apart[name] = max(apart.get(name, 0.0), float(np.abs(one - np.asarray(other)).max()))
    for name, most in apart.items():
        yield Claim(f"{name}", f"within {EXACT:g}", f"{most:.1e} at most", most - EXACT)


def affine(options: Options) -> Iterator[Claim]:
    """Yield by how much r of fixed predictions moves when each scan has another gain and offset."""
    for name, settings in SPLITS.items():
        moved = 0.0
        for seed in options.seeds:
            random = np.random.default_rng([seed, 14])
            one, other = (_scores(name, settings, seed, gains) for gains in (None, random))
            moved = max(moved, float(np.abs(one - other).max()))
        yield Claim(f"affine, {name}", f"within {EXACT:g}", f"{moved:.1e} at most", moved - EXACT)


def _scores(
    name: str, settings: dict[str, Any], seed: int, gains: np.random.Generator | None
) -> Floats:
    """Return (units,) test r over scans of two subjects, three repeats each."""
    split = draw_split(SplitConfig(**settings), FILMS, 1.5, (1, 2, 3))
    scans = [(s, film, r) for s in ("01", "02") for film in FILMS for r in (1, 2, 3)]
    random = np.random.default_rng([seed, 15])
    sums = ScanSums([subject for subject, _, _ in scans], 50)
    for index, (_, film, repeat) in enumerate(scans):
        signal, error = (smooth(random, FILMS[film], 50, 6.0) for _ in range(2))
        bold = 1000 + 10 * (signal + error)
        if gains is not None:
            bold = gains.uniform(0.2, 5) * bold + gains.uniform(-20_000, 20_000)
        if not split.has("test", repeat):
            continue
        for span in split.test:
            if span.stimulus == film:
                trs = slice(span.start, span.stop)
                sums.add(index, torch.from_numpy(signal[trs]), torch.from_numpy(bold[trs]))
    mean = sums.compute().mean
    if mean is None:
        raise RuntimeError(f"{name}: subjects have other units")
    return mean.pearson_V
