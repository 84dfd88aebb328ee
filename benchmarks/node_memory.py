"""Does a node's memory stay what it is with more workers, more trials, and when a run goes on?

    python benchmarks/node_memory.py --workers 1 2 4 8 --trials 1 2 3 4

workers
    so many processes share out the batches of epochs from the same blocks: the object store and
    what their private memory grew by, together (benchmarks/ingest.py measures it).
trials
    sweeps of so many trials at a time, each with a Ray of its own, whose object store has touched
    no page yet: what shared memory grows by at its peak (benchmarks/sweep.py).
resuming
    a training that was stopped after its first epoch, in a process of its own each: the peak of
    private memory of the one that goes on, restoring included, beside the one before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from in_memory import InMemory
from ingest_memory import watch_epochs
from ingest_ways import Ways
from machine import CONSOLE, MiB, cpu_model
from memory import print_memory, shared_bytes
from random_dataset import write_random_dataset
from rich.table import Table
from seed import SEED
from sweep import SPACE, timed_sweep, tune_job
from target import Target, add_targets, tell

from giblet_ray.checkpoint.store import keep_checkpoint, open_latest
from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.training.loop import BareLink
from giblet_ray.training.memory import MemoryPeak

ROW, MOST = 8, 1.1


@dataclass(frozen=True)
class Size:
    """Of the training that is stopped and goes on."""

    rows: int
    voxels: int
    hidden: int


def main() -> None:
    """Measure, print the tables, and tell the targets."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8], help="at a time")
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 2, 3, 4], help="at a time")
    parser.add_argument("--rows", type=int, default=4096, help="TRs of the data that is shared")
    parser.add_argument("--voxels", type=int, default=20_000, help="of the training that goes on")
    parser.add_argument("--hidden", type=int, default=1024, help="numbers its voxels' layer reads")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of it")
    add_targets(parser)
    options = parser.parse_args()
    # First, before Ray's threads are there.
    size = Size(256, options.voxels, options.hidden)
    resumed = [going_on(size) for _ in range(options.repeats)]
    in_trials = shared_in_trials(options.trials, options.rows)
    connect()
    CONSOLE.print(cpu_model())
    targets = [
        of_workers(options.workers, options.rows),
        of_trials(options.trials, in_trials),
        of_resuming(resumed),
    ]
    tell(targets, options.targets)


def of_workers(workers: list[int], rows: int) -> Target:
    """Measure the memory for data with so many workers each, beside that with the fewest."""
    with tempfile.TemporaryDirectory() as folder:
        arrays, before = write_random_dataset(folder, rows, 4096), shared_bytes()
        ways = Ways(Dataset.open(folder), arrays, 64)
        measured = [watch_epochs(ways.plan, ways.refs, before, n) for n in workers]
        print_memory(measured, ways.n_bytes)
    ratios = [each.for_data / measured[0].for_data for each in measured]
    what = f"memory for data with up to {max(workers)} workers, beside {workers[0]}"
    return Target(ROW, what, max(ratios), MOST, False, (min(ratios), max(ratios)))


def of_trials(trials: list[int], peaks: list[int]) -> Target:
    """Print the peaks of shared memory with so many trials at a time each, and return the largest
    beside that with the fewest."""
    table = Table("trials at a time", "shared memory (MiB)", title="peak memory of the node")
    for n, peak in zip(trials, peaks, strict=True):
        table.add_row(str(n), f"{peak / MiB:,.0f}")
    CONSOLE.print(table)
    ratios = [peak / peaks[0] for peak in peaks]
    what = f"memory for data with up to {max(trials)} trials at a time, beside {trials[0]}"
    return Target(ROW, what, max(ratios), MOST, False, (min(ratios), max(ratios)))


def of_resuming(peaks: list[tuple[int, int]]) -> Target:
    """Print the peaks of trainings and of those that went on, and return their ratio."""
    table = Table("training (MiB)", "going on (MiB)", title="peak private memory of a worker")
    for before, after in peaks:
        table.add_row(f"{before / MiB:,.0f}", f"{after / MiB:,.0f}")
    CONSOLE.print(table)
    ratios = [after / before for before, after in peaks]
    spread = min(ratios), max(ratios)
    what = "peak of a run that goes on, beside the training's"
    return Target(ROW, what, statistics.median(ratios), MOST, False, spread)


# --- sweeps -----------------------------------------------------------------------------------


def shared_in_trials(trials: list[int], rows: int) -> list[int]:
    """Sweep with so many trials at a time each; return the peaks of shared memory (bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        write_random_dataset(f"{folder}/data", rows, 512)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
            return [processes.apply(shared_in_sweep, (folder, n)) for n in trials]


def shared_in_sweep(folder: str, concurrent: int) -> int:
    """Sweep with a Ray of this process's own; return by how much shared memory grew (bytes)."""
    connect(num_cpus=concurrent)
    before = shared_bytes()
    settings = {"num_samples": 2 * concurrent, "space": SPACE, "search": "grid"}
    job = tune_job(Path(folder), f"at{concurrent}", 1, settings, concurrent)
    _, _, peak = timed_sweep(job, before)
    return peak


# --- a training that is stopped ---------------------------------------------------------------


class StoppedError(Exception):
    """Ends a training after its first epoch."""


class StoredLink(BareLink):
    """Keeps checkpoints in a folder, and stops the training that has just begun."""

    def __init__(self, job: TrainJob) -> None:
        super().__init__(torch.device("cpu"))
        self._storage, self._run = Storage.at(job.storage.path), job.name
        self._goes_on = False

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Give the folder of the latest checkpoint."""
        with open_latest(self._storage, self._run, self.show) as folder:
            self._goes_on = folder is not None
            yield folder

    def keep(self, folder: Path, name: str) -> None:
        """Keep a checkpoint."""
        keep_checkpoint(self._storage, self._run, folder, name)

    def report(self, metrics: dict[str, float]) -> None:
        """Stop the training, unless it goes on."""
        if not self._goes_on:
            raise StoppedError


def going_on(size: Size) -> tuple[int, int]:
    """Train for an epoch, and for another from its checkpoint; return both peaks (bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        write_random_dataset(f"{folder}/data", size.rows, size.voxels)
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
            first, second = (processes.apply(peak_of, (folder, size)) for _ in range(2))
    return first, second


def peak_of(folder: str, size: Size) -> int:
    """Train, or go on; return the peak of this process's private memory (bytes)."""
    torch.set_num_threads(1)
    sizes = {"trunk_dims": (64,), "bottleneck_dim": 32, "head_dim": size.hidden}
    job = TrainJob(
        dataset=f"{folder}/data",
        name="run",
        data={"modalities": ["text"]},
        model={**SEED, **sizes, "text_features": 32},
        train={"epochs": 2, "batch_trs": 64},
        storage={"path": f"{folder}/runs"},
    )
    training, link = InMemory(job), StoredLink(job)
    memory = MemoryPeak(link.device)
    try:
        training.train(link, training.in_memory)
    except StoppedError:
        CONSOLE.print("stopped after an epoch")
    return int(memory.bytes()["memory/host_peak_bytes"])


if __name__ == "__main__":
    main()
