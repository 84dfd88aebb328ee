"""What Ray and MLflow add to a training, beside the same loop under torchrun.

    python benchmarks/under_ray.py --workers 1 2 --repeats 3

Trains the same model on the same data set of random numbers as jobs/train.py does, and as
benchmarks/under_torchrun.py does: there rows lie as tensors in each rank's memory, ranks talk over
gloo, and nothing is stored or recorded. Both in turn, each in processes of its own, one thread to
a worker; that both have the same losses is checked. Set beside each other are:

first step
    from the command to the end of the first optimizer step: what starts, is imported and read.
later epochs
    from the end of an epoch to the end of the next, evaluation and checkpoint included.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from in_memory import Point
from machine import CONSOLE, ROOT, cpu_model
from random_dataset import write_random_dataset
from rich.table import Table
from target import Target, add_targets, tell

ROW = 3
MOST_TO_FIRST_STEP, MOST_OF_EPOCHS = 1.5, 1.05
MODEL = ["--config", str(ROOT / "jobs/seed.yaml"), "--model.video_features", "128"]
MODEL += ["--model.trunk_dims", "256,512", "--model.bottleneck_dim", "256", "--model.norm", "layer"]
MODEL += ["--model.head_dim", "512", "--train.log_every_steps", "1"]
LOSS_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Timed:
    """A training that has been timed.

    Attributes
    ----------
    first_step : float
        Seconds from the command to the end of the first step.
    epochs : tuple of float
        Seconds of each epoch but the first.
    losses : tuple of float
        Of each epoch.
    """

    first_step: float
    epochs: tuple[float, ...]
    losses: tuple[float, ...]

    @classmethod
    def of(cls, points: Sequence[Point], begun: float) -> Timed:
        """Take the times of points that were logged after a command began."""
        steps = [point.at for point in points if "step/loss" in point.metrics]
        ends = [point for point in points if "train/loss" in point.metrics]
        return cls(
            min(steps) - begun,
            tuple(after.at - before.at for before, after in pairwise(ends)),
            tuple(point.metrics["train/loss"] for point in ends),
        )

    @property
    def epoch(self) -> float:
        """Seconds of a later epoch, the median."""
        return statistics.median(self.epochs)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000, help="TRs in the data set")
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    add_targets(parser)
    options = parser.parse_args()
    found: dict[int, list[tuple[Timed, Timed]]] = {}
    with tempfile.TemporaryDirectory(prefix="under-ray-") as name:
        folder = Path(name)
        write_random_dataset(str(folder / "data"), options.rows, options.units)
        for repeat in range(options.repeats):
            for workers in options.workers:
                here = folder / f"{repeat}-{workers}"
                here.mkdir()
                words = training_words(folder / "data", options.epochs, workers)
                pair = under_torchrun(words, workers, here), under_ray(words, here)
                check(*pair)
                found.setdefault(workers, []).append(pair)
    size = f"{options.rows:,} TRs, {options.units:,} units"
    show(found, size)
    tell([each for n, pairs in found.items() for each in targets(n, pairs, size)], options.targets)


def training_words(data: Path, epochs: int, workers: int) -> list[str]:
    """Return the words of a training, as both ways are given them."""
    words = [*MODEL, "--dataset", str(data), "--name", "timed", "--train.epochs", str(epochs)]
    return [*words, "--scaling.num_workers", str(workers), "--tracking.log_model", "false"]


def under_torchrun(words: Sequence[str], workers: int, folder: Path) -> Timed:
    """Train in plain processes."""
    times = folder / "times.json"
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    begun = _run([*ranks, str(ROOT / "benchmarks/under_torchrun.py"), str(times), *words], folder)
    return Timed.of([Point(**each) for each in json.loads(times.read_text())], begun)


def under_ray(words: Sequence[str], folder: Path) -> Timed:
    """Train as a user does; MLflow's store says when each point was logged."""
    begun = _run([str(ROOT / "jobs/train.py"), *words], folder)
    asked = (
        "SELECT step, key, value, timestamp FROM metrics WHERE key IN ('step/loss', 'train/loss')"
    )
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        rows = store.execute(f"{asked} ORDER BY step")
        points = [Point(step, {key: value}, at / 1000) for step, key, value, at in rows]
    return Timed.of(points, begun)


def _run(words: Sequence[str], folder: Path) -> float:
    """Run Python in a folder until it ends; return when it began."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begun = time.time()
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{words[0]} ended with {done.returncode}: {done.stderr or done.stdout}")
    return begun


def check(bare: Timed, ray: Timed) -> None:
    """Raise unless both have trained the same."""
    for epoch, losses in enumerate(zip(bare.losses, ray.losses, strict=True), start=1):
        if abs(losses[0] - losses[1]) > LOSS_TOLERANCE * abs(losses[0]):
            raise SystemExit(f"epoch {epoch}: losses {losses[0]} and {losses[1]}: not the same")


def show(found: dict[int, list[tuple[Timed, Timed]]], size: str) -> None:
    """Print seconds."""
    table = Table(
        "workers", "", "first step, s", "a later epoch, s", title=f"{size}, {cpu_model()}"
    )
    for workers, pairs in found.items():
        for name, way in zip(("torchrun", "Ray"), zip(*pairs, strict=True), strict=True):
            first = statistics.median(each.first_step for each in way)
            epoch = statistics.median(each.epoch for each in way)
            table.add_row(str(workers), name, f"{first:.1f}", f"{epoch:.2f}")
    CONSOLE.print(table)


def targets(workers: int, pairs: Sequence[tuple[Timed, Timed]], size: str) -> list[Target]:
    """Return the two ratios of one number of workers."""
    said = f"Ray / torchrun, {workers} worker{'s' if workers > 1 else ''}, {size}"
    ratios = {
        f"first step, {said}": (
            [r.first_step / b.first_step for b, r in pairs],
            MOST_TO_FIRST_STEP,
        ),
        f"later epochs, {said}": ([r.epoch / b.epoch for b, r in pairs], MOST_OF_EPOCHS),
    }
    return [
        Target(ROW, what, statistics.median(each), bound, False, (min(each), max(each)))
        for what, (each, bound) in ratios.items()
    ]


if __name__ == "__main__":
    main()
