"""How near does preflight come to the memory that a training then takes?

    python benchmarks/preflight.py --models "5 million" "60 million" streamed

Each training is told by shapes alone (counted), rehearsed, and then run for an epoch on Ray Train's
workers. Printed are the ratios of what was said to what was measured: of a worker's peak of private
memory, and of a checkpoint's size.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import CONSOLE, MiB, cpu_model
from random_dataset import write_random_dataset
from rich.table import Table
from seed import SEED, TINY

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob
from giblet_ray.dataset.residence import place_data
from giblet_ray.preflight.brief import need_of_host
from giblet_ray.preflight.placement import look_at_cluster
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.size import measure_activations, step_size
from giblet_ray.preflight.training import examine
from giblet_ray.progress import Progress
from giblet_ray.training.data import model_shapes, plan_data
from giblet_ray.training.trainer import fit


@dataclass(frozen=True)
class Case:
    """A training: its data, and its settings."""

    n_rows: int
    n_voxels: int
    workers: int
    batch_trs: int
    model: Mapping[str, Any]
    data: dict[str, Any] = field(default_factory=dict)


CASES = {
    "tiny": Case(200, 24, 1, 16, TINY),
    "5 million": Case(
        300, 2000, 2, 32,
        {"embed_dim": 16, "video_features": 256, "trunk_dims": (256, 512), "bottleneck_dim": 512,
         "head_dim": 1024},
    ),
    "60 million": Case(
        300, 2000, 1, 48,
        {"embed_dim": 32, "trunk_dims": (2048, 4096), "bottleneck_dim": 2048, "head_dim": 9000},
    ),
    "streamed": Case(
        300, 150_000, 1, 8, TINY, {"modalities": ("audio", "text"), "residence": "stream"}
    ),
}  # fmt: skip


def main() -> None:
    """Parse, say, train, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    connect()
    table = Table(
        *("training", "peak, MiB", "counted / peak", "rehearsed / peak", "checkpoint, said / is"),
        title="memory of a worker",
    )
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            table.add_row(name, *measure(CASES[name], Path(folder)))
    CONSOLE.print(table)
    CONSOLE.print(cpu_model())


def measure(case: Case, folder: Path) -> list[str]:
    """Say what a training takes, and train; return a row of the table."""
    write_random_dataset(str(folder / "data"), case.n_rows, case.n_voxels)
    job = TrainJob(
        dataset=str(folder / "data"),
        name="run",
        data=case.data,
        model={**SEED, **case.model},
        train={"epochs": 1, "batch_trs": case.batch_trs},
        scaling={"num_workers": case.workers, "cpus_per_worker": 0.5},
        storage={"path": str(folder / "runs")},
        tracking={"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
    )
    data = place_data(plan_data(job), job.data.residence, use_gpu=False)
    kept = measure_activations(job, model_shapes(data), case.workers, data.window)
    size = step_size(job, model_shapes(data), len(data.scans), case.workers, data.window)
    counted = need_of_host(job, data, replace(size, activations=kept), use_gpu=False)
    report, cluster = Report(CONSOLE.print), look_at_cluster(look_at_gpus=False)
    rehearsal = examine(job, data, False, cluster, report, Progress(CONSOLE.print))
    if rehearsal is None:
        raise SystemExit(f"no machine here has {counted.total // MiB:,} MiB for a rehearsal")
    trained = fit(job, CONSOLE.print)
    peak = max(epoch["memory/host_peak_bytes"] for epoch in trained.position.history)
    checkpoint = sum(path.stat().st_size for path in Path(trained.best_location).iterdir())
    return [
        f"{peak / MiB:,.0f}",
        f"{counted.total / peak:.2f}",
        f"{rehearsal.peak_bytes / peak:.2f}",
        f"{rehearsal.checkpoint_bytes / checkpoint:.2f}",
    ]


if __name__ == "__main__":
    main()
