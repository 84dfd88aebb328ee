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
from claims import Claim, Options, Row, measure
from noise import LEAST_TRS, Floats, high_passed, smooth
from science_exact import ceilings

from giblet_ray.evaluation.block_bootstrap import bootstrap_mean_r
from giblet_ray.evaluation.fdr import adjusted_p
from giblet_ray.evaluation.influence import MeanR, ScanRows, mean_r
from giblet_ray.evaluation.null import draw_shifts, shift_null
from giblet_ray.evaluation.paired import paired_tests
from giblet_ray.evaluation.scan_sums import ScanSums


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


def coverage(options: Options) -> Iterator[Claim]:
    """Yield how often intervals contain the expected r, for slow and fast signals."""
    n = options.of(500, least=20)
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
            expected.append(mean_r([rows]).value)
        covered = []
        for seed in range(n):
            rows = predicted(np.random.default_rng([seed, index, 2]), 1000, *how)
            found = bootstrap_mean_r([rows], LEAST_TRS, 1000, seed)
            covered.append((found.value, found.low, found.high))
        value, low, high = np.array(covered).T
        truth = np.mean([*expected, *value])
        hit = float(np.mean((low < truth) & (truth < high)))
        text = f"{hit:.3f} of {n}, width {np.mean(high - low):.3f}, 4 SD {4 * value.std():.3f}"
        if index == 0 or how[-1]:
            yield Claim(f"interval, {name}", "0.92 to 0.98", text, outside(hit, 0.92, 0.98))
        else:
            yield Claim(f"interval, {name} (harder)", "", text)


def subjects(options: Options) -> Iterator[Claim]:
    """Yield coverage where subjects, who differ, are drawn as well."""
    n = options.of(200, least=20)
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
    yield Claim("interval, 20 subjects", "0.92 to 0.98", text, outside(hit, 0.92, 0.98))


def uniform(options: Options) -> Iterator[Claim]:
    """Yield whether p of a unit without signal is uniform."""
    n = options.of(500, least=20)
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
    yield Claim("p of no signal", "uniform (KS p > 0.01)", text, 0.01 - test.pvalue)


def paired(options: Options) -> Iterator[Claim]:
    """Yield false positives between models that are equally good."""
    n = options.of(1000, least=20)
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
        text = f"{false:.3f} of {n}"
        yield Claim(f"paired, {name}", "0.03 to 0.07", text, outside(false, 0.03, 0.07))


def discoveries(options: Options) -> Iterator[Claim]:
    """Yield in how many data sets of noise something is found."""
    n = options.of(400, least=20)
    found = 0
    for seed in range(n):
        random = np.random.default_rng([seed, 5])
        pair = [torch.from_numpy(smooth(random, 1000, 60, s)).float() for s in (6.0, 4.5)]
        shifts = draw_shifts(["film"], [1000], LEAST_TRS, 1000, seed)
        found += bool((adjusted_p(shift_null(pair[:1], pair[1:], shifts).p_values()) <= 0.05).any())
    share_found = found / n
    text = f"{share_found:.3f} of {n}"
    yield Claim("any discovery in noise", "<= 0.072", text, share_found - 0.072)


def timing(options: Options) -> Iterator[Claim]:
    """Yield how long the whole takes for a brain."""
    n_units = options.of(85_810, least=1000)
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
    missed = max(seconds / 180, peak / 3.7) - 1
    yield Claim(f"{n_units:,} units x 2,000 TRs", "< 180 s, 4 GB", text, missed)


def _mean(prediction: Floats, bold: Floats) -> MeanR:
    return mean_r([scan(prediction, bold)])


def outside(value: float, low: float, high: float) -> float:
    """Return by how much a value is outside of bounds; 0 or less within."""
    return max(low - value, value - high)


ROWS: dict[str, Row] = {
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
    parser.add_argument("--only", choices=ROWS, nargs="*", default=list(ROWS))
    parser.add_argument("--share", type=float, default=1.0, help="part of the data sets")
    given = parser.parse_args()
    measure({name: ROWS[name] for name in given.only}, Options((0,), given.share))


if __name__ == "__main__":
    main()
