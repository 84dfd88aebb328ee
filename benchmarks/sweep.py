"""What a sweep costs beyond its trainings, and what its trials share.

    python benchmarks/sweep.py --trials 12 --concurrent 2

Makes a data set of random numbers in a temporary folder and trains the same small encoders twice:

loop
    one after the other in this process, warm, from rows read once: nothing is saved, reported or
    recorded.
sweep
    by giblet_ray.tuning, so many at a time: processes, search, scheduler, checkpoints, journal
    and MLflow included; Ray is running already.

So many at a time could at best take the loop's time divided by their number. What the sweep takes
beyond that, per trial, is its overhead. The object store is measured while one trial runs at a
time, and while several do.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from machine import CONSOLE, MiB, cpu_model
from memory import shared_bytes
from random_dataset import write_random_dataset
from rich.table import Table
from seed import SEED
from target import Target, add_targets, tell

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.residence import (
    hold_blocks,
    normalise,
    open_loader,
    place_data,
    read_rows,
)
from giblet_ray.evaluation.score import VAL_PEARSON
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import new_order, run_record
from giblet_ray.training.loop import BareLink, train
from giblet_ray.tuning.space import Settings, with_settings
from giblet_ray.tuning.sweep import Swept, sweep

ROW, MOST_EXTRA = 7, 0.7

SPACE: dict[str, list[Any]] = {
    "model.embed_dim": [4, 6, 8, 10],
    "model.kernel_sizes": [[3], [3, 5], [5, 7]],
}


def main() -> None:
    """Parse, train both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=12, help="trainings, at most 12")
    parser.add_argument("--concurrent", type=int, default=2, help="trials at a time")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each")
    parser.add_argument("--rows", type=int, default=1024, help="TRs in the data set")
    add_targets(parser)
    options = parser.parse_args()

    connect()
    torch.set_num_threads(1)  # as each trial has one
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = shared_bytes()
        write_random_dataset(str(folder / "data"), options.rows, 512)
        settings = {"num_samples": options.trials, "space": SPACE, "search": "grid"}
        several = tune_job(folder, "several", options.epochs, settings, options.concurrent)
        one = tune_job(folder, "one", options.epochs, {**settings, "num_samples": 2}, 1)

        # The first training of a process is slower: both ways have one before they are timed.
        # The sweep's is the small sweep; a sweep begins with processes that exist already.
        swept, _, one_store = timed_sweep(one, before)
        rows = Loop(several)
        rows.train({})
        started = time.perf_counter()
        scores = [rows.train(trial) for trial in combinations(options.trials)]
        loop_seconds = time.perf_counter() - started
        del rows
        swept, sweep_seconds, store = timed_sweep(several, before)

    check(swept, scores)
    extra = report(options, loop_seconds, sweep_seconds, one_store, store)
    what = f"a sweep's seconds a trial beyond the bare loop, {options.trials} trials"
    tell([Target(ROW, what, extra, MOST_EXTRA, False, (extra, extra))], options.targets)


def tune_job(
    folder: Path, name: str, epochs: int, settings: dict[str, object], concurrent: int
) -> TuneJob:
    """Return a sweep over small audio encoders."""
    sizes = {"trunk_dims": (32, 32), "bottleneck_dim": 16, "head_dim": 64, "audio_features": 32}
    return TuneJob(
        dataset=str(folder / "data"),
        name=name,
        data={"modalities": ["audio"]},
        model={**SEED, **sizes, "audio_codebooks": 8},
        train={"epochs": epochs, "batch_trs": 64},
        storage={"path": str(folder / "runs")},
        tracking={"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
        sweep={**settings, "scheduler": "none", "max_concurrent": concurrent},
    )


def combinations(n: int) -> list[Settings]:
    """Return the settings of the sweep's trials, in their order."""
    names = list(SPACE)
    grid = [{names[0]: a, names[1]: b} for a in SPACE[names[0]] for b in SPACE[names[1]]]
    return grid[:n]


class Loop:
    """The same trainings in this process."""

    def __init__(self, job: TrainJob) -> None:
        self._job = job
        data = place_data(plan_data(job), "memory", use_gpu=False)
        self._rows = read_rows(data)
        self._data = hold_blocks(data, self._rows)
        self._normalisation = normalise(self._data, self._rows)
        self._loader = open_loader(self._data, torch.device("cpu"), new_order(job, self._data))

    def train(self, settings: Settings) -> float:
        """Train once; return the best score."""
        job = with_settings(self._job, settings)
        run = run_record(job, self._data, None)
        link = ScoreLink()
        windows, space = self._data.ordered(run.order), self._data.space_files()
        train(job, run, windows, self._loader, self._normalisation, space, link)
        return max(link.scores)


class ScoreLink(BareLink):
    """Keeps the scores."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.scores: list[float] = []

    def report(self, metrics: dict[str, float]) -> None:
        """Keep an epoch's score."""
        self.scores.append(metrics[VAL_PEARSON])


def timed_sweep(job: TuneJob, before: int) -> tuple[Swept, float, int]:
    """Run a sweep; return it, its seconds, and the peak of shared memory (bytes)."""
    done = threading.Event()
    seen: list[int] = [0]

    def watch() -> None:
        while not done.wait(0.05):
            seen.append(shared_bytes() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    try:
        swept = sweep(job, lambda line: CONSOLE.print(f"  {line}"))
    finally:
        done.set()
        thread.join()
    return swept, time.perf_counter() - started, max(seen)


def check(swept: Swept, scores: list[float]) -> None:
    """Raise unless both ways have trained the same."""
    by_number = sorted(swept.trials, key=lambda trial: trial.number)
    for trial, score in zip(by_number, scores, strict=True):
        best = trial.best(swept.score)
        if best != score:
            raise RuntimeError(f"trial {trial.number} reached {best}, the loop {score}")


def report(
    options: argparse.Namespace,
    loop_seconds: float,
    sweep_seconds: float,
    one_store: int,
    store: int,
) -> float:
    """Print the table; return the overhead of a trial (s)."""
    n = options.trials
    ideal = loop_seconds / options.concurrent
    CONSOLE.print(
        f"{cpu_model()}, {psutil.cpu_count()} cores; ray {ray.__version__}, "
        f"torch {torch.__version__}; {n} trainings of {options.epochs} epochs, "
        f"{options.rows:,} rows; both ways reach the same scores to the last bit"
    )
    table = Table("", "seconds", "per trial", title="sweep")
    for name, seconds in _rows(loop_seconds, ideal, sweep_seconds, options.concurrent):
        table.add_row(name, f"{seconds:.1f}", f"{seconds / n:.2f}")
    CONSOLE.print(table)
    extra = (sweep_seconds - ideal) / n
    CONSOLE.print(f"extra wall time per trial: {extra:.2f} s (at most {MOST_EXTRA})")
    CONSOLE.print(
        f"shared memory at its peak: {one_store / MiB:.0f} MiB with one trial at a time, "
        f"{store / MiB:.0f} MiB with {options.concurrent}"
    )
    return extra


def _rows(loop: float, ideal: float, swept: float, at_a_time: int) -> Iterator[tuple[str, float]]:
    yield "bare loop, one after the other", loop
    yield f"bare loop / {at_a_time}", ideal
    yield f"sweep, {at_a_time} at a time", swept


if __name__ == "__main__":
    main()
