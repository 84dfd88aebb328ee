"""Banded ridge on the demo, beside what a script of its own has measured there.

    python jobs/demo.py --fast_features 0 --own_tuning 0 --interaction 0 --drift 0 --repeats 1 \\
        --high_pass_seconds none --embedding.spread cue
    python benchmarks/ridge_reference.py --dataset demo/dataset

The reference, 0.533, was measured with himalaya, without this package, on the demo as it first was,
which the first command makes, bit for bit: colour means and 20 components of luminance at 9 x 16,
40 of code counts, 40 of text, by whole cues; delays of 0 to 8 TRs; one fit to the BOLD of both
subjects, at the TRs that three held-out blocks leave at a lag of 4 TRs.
Ends with exit code 1 if what is found here is further from it than it may be.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from local_trials import load_here
from machine import CONSOLE

from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.residence import normalise_here
from giblet_ray.dataset.windows import cut_windows
from giblet_ray.models.predictor import build_predictor
from giblet_ray.training.data import model_shapes, plan_data
from giblet_ray.training.fit import TrainingWindows
from giblet_ray.training.step import Ranks, Scores

LAG_TRS, BLOCKS, HELD_OUT, GAP_TRS = 4, 3, 0.2, 14
CPU = torch.device("cpu")


def main() -> None:
    """Parse, fit, print and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="the demo's data set")
    parser.add_argument("--weightings", type=int, default=50, help="of the parts, that are tried")
    parser.add_argument("--reference", type=float, default=0.533)
    parser.add_argument("--within", type=float, default=0.005)
    options = parser.parse_args()
    for solver in ("ridge", "banded"):
        pearson = held_out_pearson(options.dataset, solver, options.weightings)
        CONSOLE.print(f"{solver}: held-out r {pearson:.4f}")
    CONSOLE.print(f"reference, banded: {options.reference} within {options.within}")
    if abs(pearson - options.reference) > options.within:
        raise SystemExit(1)


def held_out_pearson(where: str, solver: str, weightings: int) -> float:
    """Fit, and return the mean over voxels of r on the held-out TRs."""
    ridge = {"kind": "ridge", "solver": solver, "n_iter": weightings, "subjects": "shared"}
    job = TrainJob.model_validate({"dataset": where, "model": ridge})
    dataset = Dataset.open(where)
    data = plan_data(job, dataset)
    train, val = (cut_windows(spans, data.scans, data.window) for spans in _spans(dataset))
    data = replace(data, windows={"train": train, "val": val, "test": val})
    loader = load_here(data)
    normalisation, shapes = normalise_here(data), model_shapes(data)
    scores = Scores(normalisation, shapes, job, CPU)
    model: Any = build_predictor(job.model, shapes)
    how = (loader, scores, 8, job.dataset)
    model.fit(TrainingWindows(train, normalisation.scans, *how), CONSOLE.print)
    _, metrics = scores.evaluate(Ranks(model, 1, CPU, True), loader, val, rank=0)
    return metrics["val/pearson_mean"]


def _spans(dataset: Dataset) -> tuple[list[Span], list[Span]]:
    """Return the BOLD TRs of each film that train, and those that are held out."""
    train, held_out = [], []
    for name, stimulus in dataset.stimuli.items():
        n_trs, edge = stimulus.n_trs - LAG_TRS, LAG_TRS
        length = round(n_trs * HELD_OUT / BLOCKS)
        for block in range(BLOCKS):
            start = LAG_TRS + round((2 * block + 1) * n_trs / (2 * BLOCKS) - length / 2)
            train.append(Span(name, edge, start - GAP_TRS))
            held_out.append(Span(name, start, start + length))
            edge = start + length + GAP_TRS
        train.append(Span(name, edge, stimulus.n_trs))
    return [span for span in train if span.stop > span.start], held_out


if __name__ == "__main__":
    main()
