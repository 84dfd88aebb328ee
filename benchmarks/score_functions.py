"""Whether score functions do what they say, on data whose truth is known: no training.

    python benchmarks/score_functions.py --only coverage --share 0.1

Prints for each claim what was asked, what was found, with how many data sets, and how long it took:

coverage    95 % intervals of the mean r, over data sets of 1,000 test TRs and 60 units that are
            smooth in space: how often they contain the expected one. With signal and noise that
            last for 6 s; for 20 s; for a minute, unfiltered, and with BOLD high-passed (128 s).
subjects    the same of 20 subjects, who are drawn first.
uniform     p of a unit without signal, one from each data set of smooth noise, with drift that is
            taken out by 128 s cosines: Kolmogorov-Smirnov against uniform.
paired      false positives of the paired test between equally good models, in data sets of 2,000
            TRs whose errors last for a minute.
discoveries data sets of noise in which a unit is found at q = 0.05.
ceilings    mean ceiling of units from 2 and 4 repeats, against the true one; bounds from subjects.
time        85,810 units x 2,000 TRs: scores, 1,000 permutations, 1,000 bootstraps; peak memory.

TRs are of 1.5 s. `--share` takes a part of the data sets. Use OMP_NUM_THREADS=2 for `time`.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
import scipy.stats
import torch
from machine import CONSOLE, cpu_model
from noise import LEAST_TRS, Floats, high_passed, smooth
from rich.table import Table

from giblet_ray.evaluation.block_bootstrap import bootstrap_mean_r
from giblet_ray.evaluation.ceiling import (
    explainable_ceiling,
    shared_ceiling,
    split_half_ceiling,
)
from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r, scan_influence
from giblet_ray.evaluation.null import draw_shifts, shift_null
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.evaluation.scan_sums import ScanSums

Row = tuple[str, str, str, bool]
"""What was measured, what is asked, what was found, and whether that is it."""
TRUE_CEILING = 0.6


def scan(prediction: Floats, bold: Floats, subject: str = "01") -> ScanRows:
    """Return a scan of one film."""
    pair = torch.from_numpy(prediction).float(), torch.from_numpy(bold).float()
    return ScanRows(subject, "film", np.arange(len(bold)), *pair)


def predicted(
    random: np.random.Generator, n_trs: int, seconds: float, noise: float, filtered: bool
) -> ScanRows:
    """Return a scan that is predicted with r of about 0.35; where BOLD is filtered, with less."""
    signal, error = (smooth(random, n_trs, 60, seconds) for _ in range(2))
    bold = 0.5 * signal + smooth(random, n_trs, 60, noise)
    return scan(signal + 0.8 * error, high_passed(bold) if filtered else bold)


def coverage(share: float) -> Iterator[Row]:
    """Yield how often intervals contain the expected r, for slow and fast signals."""
    n = max(20, round(500 * share))
    cases = {
        "signal 6 s, noise 5 s": (6.0, 4.5, False),
        "both 20 s": (20.0, 20.0, False),
        "both 60 s": (60.0, 60.0, False),
        "signal 60 s, noise 5 s": (60.0, 4.5, False),
        "both 60 s, high-passed": (60.0, 60.0, True),
    }
    for index, (name, how) in enumerate(cases.items()):
        expected = []
        for seed in range(2 * n):
            rows = predicted(np.random.default_rng([seed, index, 1]), 1000, *how)
            expected.append(np.mean(scan_influence(rows).pearson_V))
        covered = []
        for seed in range(n):
            rows = predicted(np.random.default_rng([seed, index, 2]), 1000, *how)
            found = bootstrap_mean_r([rows], LEAST_TRS, 1000, seed)
            covered.append((found.value, found.low, found.high))
        value, low, high = np.array(covered).T
        truth = np.mean([*expected, *value])
        hit = float(np.mean((low < truth) & (truth < high)))
        asked = "0.92 to 0.98" if index == 0 or how[-1] else "(harder)"
        text = f"{hit:.3f} of {n}, width {np.mean(high - low):.3f}, 4 SD {4 * value.std():.3f}"
        yield f"interval, {name}", asked, text, 0.92 <= hit <= 0.98


def subjects(share: float) -> Iterator[Row]:
    """Yield coverage where subjects, who differ, are drawn as well."""
    n = max(20, round(200 * share))
    found = []
    for seed in range(n):
        random = np.random.default_rng([seed, 7])
        signal = smooth(random, 300, 20, 6.0)
        scans = []
        for subject in range(20):
            gain = random.uniform(0, 1)
            bold = gain * signal + smooth(random, 300, 20, 4.5)
            scans.append(scan(signal + smooth(random, 300, 20, 6.0), bold, str(subject)))
        interval = bootstrap_mean_r(scans, LEAST_TRS, 500, seed)
        found.append((interval.value, interval.low, interval.high))
    value, low, high = np.array(found).T
    hit = float(np.mean((low < value.mean()) & (value.mean() < high)))
    text = f"{hit:.3f} of {n}, width {np.mean(high - low):.3f}, 4 SD {4 * value.std():.3f}"
    yield "interval, 20 subjects", "0.92 to 0.98", text, 0.92 <= hit <= 0.98


def uniform(share: float) -> Iterator[Row]:
    """Yield whether p of a unit without signal is uniform."""
    n = max(20, round(500 * share))
    p = []
    for seed in range(n):
        random = np.random.default_rng([seed, 3])
        rows = [smooth(random, 1000, 4, seconds) for seconds in (6.0, 4.5)]
        drift = np.linspace(-2, 2, 1000)[:, None] ** 2
        pair = [torch.from_numpy(high_passed(r)).float() for r in (rows[0], rows[1] + drift)]
        shifts = draw_shifts(["film"], [1000], LEAST_TRS, 1000, seed)
        p.append(shift_null(pair[:1], pair[1:], shifts).p_values()[0])
    test = scipy.stats.kstest(p, "uniform")
    text = f"KS p = {test.pvalue:.2f}, {np.mean(np.array(p) <= 0.05):.3f} of {n} <= 0.05"
    yield "p of no signal", "uniform", text, test.pvalue > 0.01


def paired(share: float) -> Iterator[Row]:
    """Yield false positives between models that are equally good."""
    n = max(20, round(1000 * share))
    cases = {
        "signal and errors 60 s, noise 5 s": (60.0, 4.5),
        "signal 6 s, errors 60 s": (6.0, 4.5),
        "all 60 s": (60.0, 60.0),
    }
    for index, (name, (seconds, noise)) in enumerate(cases.items()):
        p = []
        for seed in range(n):
            random = np.random.default_rng([seed, index, 4])
            signal = smooth(random, 2000, 12, seconds, 3)
            bold = 0.5 * signal + smooth(random, 2000, 12, noise, 3)
            one, other = (
                _mean(signal + 0.8 * smooth(random, 2000, 12, 60.0, 3), bold) for _ in range(2)
            )
            p.append(paired_tests([(one, other)], LEAST_TRS, 99, seed)[0].p)
        false = float(np.mean(np.array(p) <= 0.05))
        yield f"paired, {name}", "0.03 to 0.07", f"{false:.3f} of {n}", 0.03 <= false <= 0.07


def discoveries(share: float) -> Iterator[Row]:
    """Yield in how many data sets of noise something is found."""
    n = max(20, round(400 * share))
    found = 0
    for seed in range(n):
        random = np.random.default_rng([seed, 5])
        pair = [torch.from_numpy(smooth(random, 1000, 60, s)).float() for s in (6.0, 4.5)]
        shifts = draw_shifts(["film"], [1000], LEAST_TRS, 1000, seed)
        found += bool((adjusted_p(shift_null(pair[:1], pair[1:], shifts).p_values()) <= 0.05).any())
    share_found = found / n
    yield "any discovery in noise", "<= 0.072", f"{share_found:.3f} of {n}", share_found <= 0.072


def ceilings(share: float) -> Iterator[Row]:
    """Yield estimated ceilings beside the true one."""
    del share
    for name, (low, high) in estimated_ceilings(0).items():
        if low == high:
            asked, holds = "within 0.03", abs(low - TRUE_CEILING) <= 0.03
            yield f"ceiling {TRUE_CEILING}, {name}", asked, f"{low:.3f}", holds
        else:
            holds = low < TRUE_CEILING < high
            yield name, f"{TRUE_CEILING} inside", f"{low:.3f} to {high:.3f}", holds


def estimated_ceilings(seed: int) -> dict[str, tuple[float, float]]:
    """Return the mean ceiling of 400 units by each estimate, from one to another where bounds."""
    random = np.random.default_rng([seed, 6])
    signal = TRUE_CEILING * smooth(random, 600, 400, 6.0, 1.0)
    scale = np.sqrt(1 - TRUE_CEILING**2)
    bold = np.stack([signal + scale * smooth(random, 600, 400, 4.5, 1.0) for _ in range(4)])
    rows, found = torch.from_numpy(bold).float(), {}
    for n in (2, 4):
        for name, estimate in (("EV", explainable_ceiling), ("halves", split_half_ceiling)):
            mean = float(np.nanmean(estimate(rows[:n], LEAST_TRS).ceiling_V))
            found[f"{n} repeats, {name}"] = mean, mean
    shared = shared_ceiling(rows)
    found["shared ceiling, 4 subjects"] = shared.lower_SV.mean(), shared.upper_SV.mean()
    return found


def timing(share: float) -> Iterator[Row]:
    """Yield how long the whole takes for a brain."""
    n_units = max(1000, round(85_810 * share))
    random = torch.Generator().manual_seed(0)
    bold = torch.randn(2000, n_units, generator=random)
    prediction = torch.randn(2000, n_units, generator=random).add_(bold, alpha=0.3)
    rows = ScanRows("01", "film", np.arange(2000), prediction, bold)
    started, cpu = time.perf_counter(), time.process_time()

    def lap(work: Callable[[], object]) -> str:
        begun = time.perf_counter()
        work()
        return f"{time.perf_counter() - begun:.0f}"

    def score() -> None:
        sums = ScanSums(["01"], n_units)
        for part in torch.arange(2000).split(100):
            sums.add(0, prediction[part], bold[part])
        sums.compute()

    def permute() -> None:
        shifts = draw_shifts(["film"], [2000], LEAST_TRS, 1000, 0)
        null = shift_null([prediction], [bold], shifts)
        adjusted_p(null.p_values())
        null.percentile()

    laps = [lap(work) for work in (score, permute, lambda: bootstrap_mean_r([rows], LEAST_TRS))]
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = f"{seconds:.0f} s ({' + '.join(laps)}), CPU {cpu:.0f} s, peak {peak:.1f} GiB"
    yield f"{n_units:,} units x 2,000 TRs", "< 180 s, 4 GB", text, seconds < 180 and peak < 3.7


def _mean(prediction: Floats, bold: Floats) -> MeanR:
    return mean_r([scan_influence(scan(prediction, bold))])


CLAIMS: dict[str, Callable[[float], Iterator[Row]]] = {
    "time": timing,
    "coverage": coverage,
    "subjects": subjects,
    "uniform": uniform,
    "paired": paired,
    "discoveries": discoveries,
    "ceilings": ceilings,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=CLAIMS, nargs="*", default=list(CLAIMS))
    parser.add_argument("--share", type=float, default=1.0, help="part of the data sets")
    args = parser.parse_args()
    table = Table("claim", "asked", "found", "", "seconds", title=cpu_model())
    for name in args.only:
        begun = time.perf_counter()
        for claim, asked, found, holds in CLAIMS[name](args.share):
            seconds = f"{time.perf_counter() - begun:.0f}"
            table.add_row(claim, asked, found, "yes" if holds else "NO", seconds)
            begun = time.perf_counter()
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
