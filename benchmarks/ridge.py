"""Time and memory of banded ridge, beside himalaya called plainly on the same arrays.

    python benchmarks/ridge.py --units 8581 --trs 3000 --weightings 2

Makes a film of random vectors and one scan that follows it, and fits banded ridge with delays in
three ways, each in a process of its own:

giblet_ray
    as ``--model.kind ridge`` does.
giblet_ray, a quarter of the units
    shows what memory depends on.
himalaya
    ``solve_multiple_kernel_ridge_random_search`` with its defaults, on vectors that are copied for
    each delay, with the same weightings, alphas and folds.

Printed are the seconds, and by how much each process grew beyond the arrays that it was given;
of that, what weights and BOLD take, which any way must hold, and what else it took. The weights
are compared.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from array_film import ArrayFilm
from machine import CONSOLE, MiB, cpu_model
from memory import Peak
from noise import TR_SECONDS
from rich.table import Table

from giblet_ray.models.folds import gapped_folds
from giblet_ray.models.predictor import Shapes
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.models.ridge.model import MOST_ROWS, Ridge
from giblet_ray.models.training_rows import TrainingRows
from giblet_ray.parts.value import ValueType

SUBJECT = "01"


@dataclass(frozen=True)
class Size:
    """How much is fitted."""

    units: int
    trs: int
    parts: int
    features: int
    delays: int
    weightings: int
    folds: int
    threads: int

    @property
    def model(self) -> Ridge:
        """The model, not fitted yet."""
        settings = RidgeConfig(
            delays_seconds=(0, (self.delays - 1) * TR_SECONDS),
            n_iter=self.weightings,
            folds=self.folds,
            alphas=(1, 1e4),
            n_alphas=9,
        )
        names = [f"part{index}" for index in range(self.parts)]
        vector = ValueType(dtype="float32", shape=(self.features,))
        bold = ValueType(dtype="float32", shape=(self.units,))
        values = {**dict.fromkeys(names, vector), "bold": bold}
        return Ridge(
            settings,
            Shapes(values, dict.fromkeys(names, "vector"), {SUBJECT: self.units}, TR_SECONDS),
        )


class Film(ArrayFilm):
    """A film of random vectors, and a scan that follows it: all TRs train.

    Vectors have mean 0 and a variance of 1 in all, as those that ridge makes.
    """

    def __init__(self, size: Size, context_trs: int) -> None:
        random = np.random.default_rng(0)
        parts: dict[str, np.ndarray] = {}
        for index in range(size.parts):
            rows = random.standard_normal((size.trs, size.features), np.float32)
            rows = (rows - rows.mean(0)) / rows.std(0) / size.features**0.5
            parts[f"part{index}"] = rows.astype(np.float32)
        drive = np.roll(np.concatenate(list(parts.values()), axis=1), 3, axis=0)
        mixing = random.standard_normal((drive.shape[1], size.units), np.float32)
        bold = drive @ mixing
        bold += 2 * random.standard_normal(bold.shape, np.float32)
        bold -= bold.mean(0)
        bold /= bold.std(0)
        super().__init__(parts, {SUBJECT: bold}, slice(0, size.trs), context_trs)


def vectors_of(size: Size, film: Film) -> list[np.ndarray]:
    """Return the vectors (TRs, features) of each part, scaled by the TRs that ridge scales by."""
    model = size.model
    raw = TrainingRows(film, [SUBJECT], [0], model.context_trs).raw(model._vectors, MOST_ROWS)
    for part, raw_ND in raw.items():
        model._vectors[part].fit(raw_ND)
    return [model._vectors[part](torch.from_numpy(x)).numpy() for part, x in film.parts.items()]


def ours(size: Size, film: Film) -> np.ndarray:
    """Fit as ``--model.kind ridge`` does; return the weights (units, delays, features)."""
    model = size.model
    model.fit(film, lambda line: None)
    return model.weights[0].numpy()


def plainly(size: Size, film: Film) -> np.ndarray:
    """Call himalaya with a copy of the vectors for each delay; return the weights likewise."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    set_backend("torch")
    delays = range(size.delays)
    copies = [
        np.concatenate([np.pad(x, ((d, 0), (0, 0)))[: len(x)] for d in delays], axis=1)
        for x in vectors_of(size, film)
    ]
    rows = [torch.from_numpy(x) for x in copies]
    gap_trs = size.model._gap_trs
    folds = gapped_folds(np.zeros(size.trs, int), np.arange(size.trs), size.folds, gap_trs)
    _, weights, _ = solve_multiple_kernel_ridge_random_search(
        torch.stack([x @ x.T for x in rows]),
        torch.from_numpy(film.bold[SUBJECT]),
        n_iter=size.weightings,
        alphas=torch.logspace(0, 4, 9),
        cv=folds,
        return_weights="primal",
        Xs=rows,
        random_state=0,
        progress_bar=False,
    )
    of_parts = weights.numpy().reshape(size.parts, size.delays, size.features, size.units)
    return of_parts.transpose(3, 1, 0, 2).reshape(size.units, size.delays, -1)


WAYS = {"giblet_ray": ours, "himalaya": plainly}


def measure(way: str, size: Size, out: str) -> None:
    """Fit in this process; write seconds, bytes that it grew by, and weights."""
    torch.set_num_threads(size.threads)
    film = Film(size, size.model.context_trs)
    # Libraries are loaded, and their buffers made, before anything is measured.
    small = Size(8, 200, size.parts, size.features, size.delays, 2, size.folds, size.threads)
    WAYS[way](small, Film(small, size.model.context_trs))
    process = psutil.Process()
    before = process.memory_info().rss
    started = time.perf_counter()
    with Peak(lambda: (process.memory_info().rss, 0)) as peak:
        weights = WAYS[way](size, film)
    seconds = time.perf_counter() - started
    grown = max(rss for rss, _ in peak.seen) - before
    np.savez(out, seconds=seconds, grown=grown, weights=weights[:200])


def run(way: str, size: Size, folder: Path) -> dict[str, np.ndarray]:
    """Measure in a process of its own."""
    out = folder / f"{way}-{size.units}.npz"
    process = multiprocessing.get_context("spawn").Process(
        target=measure, args=(way, size, str(out))
    )
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{way} ended with exit code {process.exitcode}")
    with np.load(out) as found:
        return dict(found)


def main() -> None:
    """Parse, measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=8581)
    parser.add_argument("--trs", type=int, default=3000, help="training TRs")
    parser.add_argument("--parts", type=int, default=3, help="bands")
    parser.add_argument("--features", type=int, default=100, help="numbers of each part")
    parser.add_argument("--delays", type=int, default=9)
    parser.add_argument("--weightings", type=int, default=2, help="of the parts, that are tried")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    size = Size(**vars(parser.parse_args()))
    few = Size(**{**vars(size), "units": max(1, size.units // 4)})

    CONSOLE.print(f"{cpu_model()}, {size.threads} threads; {size}")
    table = Table(
        *("", "units", "seconds", "grew by (MiB)", "of it weights and BOLD", "and all else"),
        title="banded ridge",
    )
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, way, each in (
            ("giblet_ray", "giblet_ray", size),
            ("giblet_ray, a quarter", "giblet_ray", few),
            ("himalaya", "himalaya", size),
        ):
            found[name] = run(way, each, Path(folder))
            numbers = each.delays * each.parts * each.features
            # himalaya reads the BOLD where it lies; a run copies it from its batches.
            held = 4 * each.units * (numbers + (each.trs if way == "giblet_ray" else 0))
            grown = int(found[name]["grown"])
            row = (f"{float(found[name]['seconds']):,.1f}", grown, held, grown - held)
            sizes = (f"{number / MiB:,.0f}" for number in row[1:])
            table.add_row(name, f"{each.units:,}", str(row[0]), *sizes)
    CONSOLE.print(table)
    mine, plain = found["giblet_ray"], found["himalaya"]
    difference = np.abs(mine["weights"] - plain["weights"]).max()
    CONSOLE.print(
        f"himalaya called plainly takes {float(plain['seconds'] / mine['seconds']):.2f} times as "
        f"long; weights of up to {np.abs(plain['weights']).max():.3f} differ by {difference:.1e}"
    )
    if difference > 1e-3 * np.abs(plain["weights"]).max():
        raise SystemExit("the weights differ")


if __name__ == "__main__":
    main()
