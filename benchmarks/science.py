"""What a model must reach, and what is reached: the table.

    OMP_NUM_THREADS=1 python benchmarks/science.py --demo demo

linear       truth is linear in the parts; responses of 4 to 6.5 s that differ by unit
interaction  half of the variance in products of sound and picture, shared by units or their own
subjects     tuning that subjects share by 0, 50 and 100 %
new-subject  a subject with 20 % of the data
heads        what each kind of head reaches
lengths      trainings of several lengths, from little data and from much
demo         the demo's film: the run in its folder beside banded ridge
noise        ridge fitted to noise: mean test r, p of a unit, discoveries
selection    encoders trained on noise: validation r of the best of 12 trials, and its test r
ceilings     estimated from 2 and 4 repeats, and from subjects, where the true one is 0.6
others       r, R2 and split scores, beside scipy's and himalaya's
affine       r where each scan has another gain and offset, in every kind of split

A data set has 1,500 training, 300 validation and 600 test TRs of 1.5 s, 400 units and 3 parts of 30
features, with a ceiling of 0.6 (simulated.py); r is of test TRs, mean (least to most) over seeds.
What waits prints what ridge reaches.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from claims import Claim, Options, Row, measure
from science_defaults import heads, lengths
from science_exact import affine, ceilings, others
from science_noise import noise, selection
from science_truth import interaction, linear, new_subject, subjects

_CAPTION = "waits: for a demo that is evaluated"


def demo(options: Options) -> Iterator[Claim]:
    """Yield what the demo's evaluation found, if there is one."""
    name, asked = "demo: run / banded ridge", ">= 0.97"
    files = sorted(Path(options.demo or "").rglob("scores.json")) if options.demo else []
    if not files:
        text = "waits for jobs/evaluate.py on the demo (--demo FOLDER)"
        yield Claim(name, asked, text)
    for path in files:
        scores = json.loads(path.read_text())
        run, ridge = (scores.get(f"test/{each}pearson_mean") for each in ("", "ridge_"))
        if run is None or ridge is None:
            yield Claim(name, asked, f"{path.parent.name}: evaluated without a test or ridge")
            continue
        text = f"{path.parent.name}: {run:.4f} / {ridge:.4f} = {run / ridge:.3f}"
        yield Claim(name, asked, text, 0.97 - run / ridge)
    name = "demo: encoder and ridge stacked"
    stacks = sorted(Path(options.demo or "").rglob("members.json")) if options.demo else []
    if not stacks:
        yield Claim(name, ">= both", "waits for the demo (--demo FOLDER)")
    for path in stacks:
        members = json.loads(path.read_text())
        stacked = members[0]["pearson_mean"] + members[0]["difference"]
        alone = {each["name"]: each["pearson_mean"] for each in members}
        each = ", ".join(f"{name} {r:.4f}" for name, r in alone.items())
        text = f"{path.parent.name}: {stacked:.4f}; {each}"
        yield Claim(name, ">= both", text, max(alone.values()) - stacked)


ROWS: dict[str, Row] = {
    "linear": linear,
    "interaction": interaction,
    "subjects": subjects,
    "new-subject": new_subject,
    "heads": heads,
    "lengths": lengths,
    "demo": demo,
    "noise": noise,
    "selection": selection,
    "ceilings": ceilings,
    "others": others,
    "affine": affine,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=ROWS, nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3, help="of each row")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--share", type=float, default=1.0, help="part of TRs, units, data sets")
    parser.add_argument("--weightings", type=int, default=8, help="that banded ridge tries")
    parser.add_argument("--demo", help="the demo's folder, evaluated")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    options = Options(seeds, given.share, given.weightings, given.demo)
    measure({name: ROWS[name] for name in given.only}, options, _CAPTION)


if __name__ == "__main__":
    main()
