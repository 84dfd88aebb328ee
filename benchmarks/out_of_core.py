"""Training on data that does not fit: its memory and its rate over time.

    python benchmarks/out_of_core.py --store-mib 80 --times 5

Starts Ray with an object store of that size, makes a data set of random numbers that many times
as large in a temporary folder, and trains small encoders on it by giblet_ray.training, streamed
from disk. Then it trains on half of that data set: what memory there is must not follow its size.

memory
    all of Ray's processes together, workers too, each shared page counted once (the sum of their
    proportional set sizes), four times a second; the object store by itself; what was spilled from
    it to disk; and the slope of memory over the training, its first epoch left out as a warm-up.
rate
    rows/s of every ten steps, evaluation and checkpoints between epochs left out.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import ray
from machine import CONSOLE, MiB, cpu_model
from random_dataset import write_random_dataset
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from rich.table import Table
from seed import SEED

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.tracking.store import open_store
from giblet_ray.training.trainer import fit

PARTS = ("codes", "text")
VOXELS = 4096
ROW_BYTES = 8 * 112 * 2 + 1024 * 4 + VOXELS * 4
STEPS_PER_POINT = 10


@dataclass(frozen=True)
class Sample:
    """Bytes at a moment (s)."""

    at: float
    processes: int
    store: int
    spilled: int


@dataclass(frozen=True)
class Measured:
    """One training.

    Attributes
    ----------
    n_bytes : int
        Size of the data that was read in each epoch.
    samples : list of Sample
        From the end of the first epoch to the end.
    rates : list of float
        Rows/s of every ten steps, the first epoch left out.
    """

    n_bytes: int
    samples: list[Sample]
    rates: list[float]

    @property
    def slope(self) -> float:
        """Bytes by which memory grows in each epoch's worth of reading, by least squares."""
        at = [sample.at for sample in self.samples]
        slope = np.polyfit(at, [sample.processes for sample in self.samples], 1)[0]
        return float(slope) * (at[-1] - at[0])


class Watch:
    """Samples the memory of Ray's processes in a thread for as long as its block runs."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._state = get_state_from_address(ray.get_runtime_context().gcs_address)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._stopped.wait(0.25):
            stats = get_memory_info_reply(self._state).store_stats
            self.samples.append(
                Sample(
                    time.time(),
                    ray_bytes(),
                    stats.object_store_bytes_used,
                    stats.spilled_bytes_total,
                )
            )

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()


def ray_bytes() -> int:
    """Return the memory of all processes that this one has started."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return total


def main() -> None:
    """Parse, train on both data sets, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store-mib", type=int, default=80, help="object store; Ray takes 75 up")
    parser.add_argument("--times", type=float, default=5, help="data set, in object stores")
    parser.add_argument("--epochs", type=int, default=4, help="epochs, the first to warm up")
    parser.add_argument("--workers", type=int, default=1, help="training workers")
    parser.add_argument("--batch-trs", type=int, default=64, help="TRs per step")
    options = parser.parse_args()

    n_rows = math.ceil(options.times * options.store_mib * MiB / ROW_BYTES)
    with tempfile.TemporaryDirectory() as name:
        whole = measure(Path(name) / "whole", n_rows, options)
        half = measure(Path(name) / "half", n_rows // 2, options)
    report(options, {"whole": whole, "half": half})


def measure(folder: Path, n_rows: int, options: argparse.Namespace) -> Measured:
    """Train on a data set of so many rows, in a Ray of its own."""
    write_random_dataset(str(folder / "data"), n_rows, VOXELS, PARTS)
    job = TrainJob.model_validate(
        {
            "dataset": str(folder / "data"),
            "name": "streamed",
            "data": {"modalities": ["audio", "text"], "residence": "stream", "lag_seconds": 0},
            "model": {
                **SEED,
                "audio_codebooks": 8,
                "embed_dim": 4,
                "kernel_sizes": [3],
                "audio_features": 32,
                "text_features": 32,
                "trunk_dims": [32, 32],
                "bottleneck_dim": 16,
                "head_dim": 32,
            },
            "train": {
                "epochs": options.epochs,
                "batch_trs": options.batch_trs,
                "log_every_steps": STEPS_PER_POINT,
            },
            "scaling": {"num_workers": options.workers, "use_gpu": False},
            "storage": {"path": str(folder / "runs")},
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
        }
    )
    connect(object_store_bytes=options.store_mib * MiB)
    with Watch() as watch:
        trained = fit(job, print)
    ray.shutdown()
    dataset = Dataset.open(job.dataset)
    n_train = check(job, trained.position.step, trained.position.history, dataset)
    curve = open_store(trained.mlflow_run.uri).curve(trained.mlflow_run.id, "train/lr")
    points = [(point.step, point.at) for point in curve]
    steps_per_epoch = math.ceil(n_train / options.batch_trs)
    warm = [(step, at) for step, at in points if step > steps_per_epoch]
    rates = [
        STEPS_PER_POINT * options.batch_trs / (later - earlier)
        for (before, earlier), (after, later) in itertools.pairwise(warm)
        if before // steps_per_epoch == (after - 1) // steps_per_epoch
    ]
    samples = [sample for sample in watch.samples if warm[0][1] <= sample.at <= warm[-1][1]]
    return Measured(n_rows * ROW_BYTES, samples, rates)


def check(job: TrainJob, n_steps: int, history: list[dict[str, float]], dataset: Dataset) -> int:
    """Return the number of training windows; raise unless every epoch took each of them."""
    from giblet_ray.training.data import plan_data

    n_train = len(plan_data(job, dataset).train)
    expected = job.train.epochs * math.ceil(n_train / job.train.batch_trs)
    losses = [metrics["train/loss"] for metrics in history]
    if n_steps != expected or not np.isfinite(losses).all() or losses[-1] >= losses[0]:
        raise RuntimeError(f"{n_steps} steps, not {expected}; losses {losses}")
    return n_train


def report(options: argparse.Namespace, measured: dict[str, Measured]) -> None:
    """Print memory and rate beside the size of the data."""
    load, _, _ = os.getloadavg()
    CONSOLE.print(
        f"{cpu_model()}, {os.cpu_count()} cores; load of others and this {load:.1f}; "
        f"ray {ray.__version__}; object store {options.store_mib} MiB, "
        f"{options.workers} workers, {options.epochs} epochs of which the first is left out"
    )
    table = Table(
        "data set",
        "MiB",
        "processes at most",
        "least",
        "growth",
        "object store at most",
        "spilled",
        title="memory (MiB)",
    )
    for name, of in measured.items():
        used = [sample.processes for sample in of.samples]
        numbers = (
            of.n_bytes,
            max(used),
            min(used),
            of.slope,
            max(sample.store for sample in of.samples),
            of.samples[-1].spilled,
        )
        table.add_row(name, *(f"{number / MiB:,.0f}" for number in numbers))
    CONSOLE.print(table)
    table = Table("data set", "rows/s", "slowest / median", "windows", title="rate")
    for name, of in measured.items():
        median = statistics.median(of.rates)
        table.add_row(name, f"{median:,.0f}", f"{min(of.rates) / median:.2f}", str(len(of.rates)))
    CONSOLE.print(table)
    whole, half = measured.values()
    peaks = [max(sample.processes for sample in of.samples) for of in (whole, half)]
    CONSOLE.print(f"memory of the whole / of the half: {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    main()
