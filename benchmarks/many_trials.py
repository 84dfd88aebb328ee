"""Many short trials in one sweep: do search, journal and MLflow keep up with the scheduler?

    python benchmarks/many_trials.py --trials 200 --slots 16

Starts Ray with so many slots, however many cores there are, and an MLflow server of its own, and
runs a random search over tiny encoders. Printed are

searching
    the share of the sweep's time in which the scheduler waited for what to try next.
slots in use
    trials that ran at the same time, from the first start to the last, beside the slots.
journal and MLflow
    points that MLflow took per second; how much it still had to be told when the last trial had
    ended, in seconds of its own rate, beside the seconds that the trials took.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from machine import CONSOLE, cpu_model
from random_dataset import write_random_dataset
from rich.table import Table
from seed import SEED
from target import Target, add_targets, tell

from giblet_ray.cluster import connect
from giblet_ray.config import TuneJob
from giblet_ray.tracking.server import why_away
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.tuning import session
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import Settings
from giblet_ray.tuning.sweep import Swept, sweep

ROW = 7
MOST_SEARCHING, LEAST_SLOTS, MOST_BEHIND = 0.02, 0.8, 0.1
SPACE = {"optimizer.lr": "1e-4..1e-2:log", "optimizer.weight_decay": "1e-4..1e-1:log"}


class TimedSearch(Search):
    """Adds up the seconds that it takes to say what to try."""

    seconds = 0.0

    def ask(self, number: int) -> Settings:
        """See :meth:`Search.ask`."""
        started = time.perf_counter()
        try:
            return super().ask(number)
        finally:
            TimedSearch.seconds += time.perf_counter() - started


class WatchedRuns(SweepRuns):
    """Samples how many trials run and how many points MLflow has still to take."""

    samples: list[tuple[float, int, int]]
    """Time (s), trials that run, and points and other entries that wait."""
    n_points: int

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        WatchedRuns.samples, WatchedRuns.n_points = [], 0
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def log(self, folder: str, points: Any) -> None:
        """See :meth:`SweepRuns.log`."""
        points = list(points)
        WatchedRuns.n_points += sum(len(metrics) for _, metrics in points)
        super().log(folder, points)

    def close(self, status: str, patience_seconds: float) -> None:
        """See :meth:`SweepRuns.close`."""
        super().close(status, patience_seconds)
        self._stopped.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._stopped.wait(0.1):
            waiting = len(self._log.pending())
            WatchedRuns.samples.append((time.perf_counter(), len(self._open), waiting))


def main() -> None:
    """Parse, sweep, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="trials in all")
    parser.add_argument("--slots", type=int, default=16, help="trials at a time")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each")
    add_targets(parser)
    options = parser.parse_args()
    connect(num_cpus=options.slots)
    with (
        mock.patch.object(session, "Search", TimedSearch),
        mock.patch.object(session, "SweepRuns", WatchedRuns),
        tempfile.TemporaryDirectory() as name,
        mlflow_server(Path(name)) as uri,
    ):
        write_random_dataset(f"{name}/data", 512, 64)
        started = time.perf_counter()
        swept = sweep(tune_job(Path(name), uri, options), lambda line: None)
        seconds = time.perf_counter() - started
    report(options, swept, seconds)


def tune_job(folder: Path, uri: str, options: argparse.Namespace) -> TuneJob:
    """Return a sweep over tiny audio encoders."""
    sizes = {"trunk_dims": (16,), "bottleneck_dim": 8, "head_dim": 16, "audio_features": 8}
    return TuneJob(
        dataset=str(folder / "data"),
        name="many",
        data={"modalities": ["audio"]},
        model={**SEED, **sizes, "embed_dim": 4, "audio_codebooks": 2, "kernel_sizes": [3]},
        train={"epochs": options.epochs, "batch_trs": 64},
        storage={"path": str(folder / "runs")},
        tracking={"uri": uri, "log_model": False, "patience_seconds": 600},
        sweep={
            "num_samples": options.trials,
            "space": SPACE,
            "search": "random",
            "scheduler": "none",
            "max_concurrent": options.slots,
        },
    )


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run an MLflow server on loopback over a store in sqlite; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    uri = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        while why_away(uri) is not None:
            if server.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.2)
        yield uri
    finally:
        server.terminate()
        server.wait()


def report(options: argparse.Namespace, swept: Swept, seconds: float) -> None:
    """Print what was measured, and the targets."""
    states = {trial.state for trial in swept.trials}
    if len(swept.trials) != options.trials or states != {"finished"}:
        raise RuntimeError(f"{len(swept.trials)} trials, {states}, of {options.trials}")
    begun = [sample for sample in WatchedRuns.samples if sample[1]]
    first, last = begun[0][0], begun[-1][0]
    of_trials = last - first
    full = [n for at, n, _ in begun if n and at < last]
    used = sum(full) / max(1, len(full)) / options.slots
    left = begun[-1][2]
    drained = next((at for at, n, waiting in WatchedRuns.samples if at >= last and not waiting),
                   WatchedRuns.samples[-1][0])  # fmt: skip
    rate = WatchedRuns.n_points / max(1e-9, drained - first)
    searching, behind = TimedSearch.seconds / of_trials, (drained - last) / of_trials
    table = Table("", "", title=f"{options.trials} trials, {options.slots} slots; {cpu_model()}")
    for name, value in {
        "seconds, command to end": f"{seconds:.1f}",
        "seconds of the trials": f"{of_trials:.1f}",
        "trials a second": f"{options.trials / of_trials:.2f}",
        "seconds searching": f"{TimedSearch.seconds:.2f}",
        "slots in use, mean": f"{used * options.slots:.1f} of {options.slots}",
        "points that MLflow took a second": f"{rate:,.0f} ({WatchedRuns.n_points:,} in all)",
        "still to be told after the last trial": f"{left:,} entries, {drained - last:.1f} s",
    }.items():
        table.add_row(name, value)
    CONSOLE.print(table)
    which = f"{options.trials} trials in {options.slots} slots"
    tell(
        [
            Target(ROW, f"time searching of a sweep's, {which}", searching, MOST_SEARCHING, False,
                   (searching, searching)),
            Target(ROW, f"slots in use, {which}", used, LEAST_SLOTS, True, (used, used)),
            Target(ROW, f"MLflow's time after the last trial beside the trials', {which}", behind,
                   MOST_BEHIND, False, (behind, behind)),
        ],
        options.targets,
    )  # fmt: skip


if __name__ == "__main__":
    main()
