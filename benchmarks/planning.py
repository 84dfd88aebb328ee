"""What a training does before it starts a worker, timed in a process that does nothing else.

    python benchmarks/planning.py FOLDER

FOLDER is a data set; what was found is printed as JSON. benchmarks/scaling_model.py makes data
sets of 10 million TRs, and runs this on them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.order import DataOrder, StreamedOrder
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.view import view_data

WORKERS, BATCH_TRS, PARTS = 64, 4096, ("frames", "codes", "text")
_TASKS_OF = 4096
"""Row groups that read tasks are made of."""


@dataclass(frozen=True)
class Planned:
    """What opening and planning took in a process of its own.

    Attributes
    ----------
    n_trs, n_files, n_windows : int
        TRs of all scans, files, and windows of all sets.
    manifest_bytes, view_bytes, task_bytes : int
        Of the manifest's file, of what every worker is sent, and of a read task.
    opened, planned, ordered : float
        Seconds to open the data set, to split and cut it, and to order an epoch of 64 workers.
    peak_bytes : int
        Of the process.
    """

    n_trs: int
    n_files: int
    n_windows: int
    manifest_bytes: int
    view_bytes: int
    task_bytes: int
    opened: float
    planned: float
    ordered: float
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.opened + self.planned + self.ordered


def main() -> None:
    """Open and plan a data set with windows of one TR, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="data set")
    folder = parser.parse_args().folder
    started = time.perf_counter()
    dataset = Dataset.open(folder)
    opened = time.perf_counter()
    data = view_data(dataset, DataConfig(), PARTS, head_per_subject=True)
    data.describe()
    planned = time.perf_counter()
    order = DataOrder(
        seed=0,
        windows=len(data.train),
        batch_size=min(len(data.train), BATCH_TRS),
        smallest_batch=1,
        streamed=StreamedOrder(row_group_trs=dataset.manifest.row_group_trs, lanes=WORKERS),
    )
    data.ordered(order).steps(0, 0, WORKERS)
    ordered = time.perf_counter()
    peak = peak_bytes()
    # Only now: planning needs no Ray.
    import ray.cloudpickle as cloudpickle

    from giblet_ray.dataset.source import TASK_BYTES, ShardSource

    source = ShardSource(dataset, data.selection, dataset.row_groups(PARTS)[:_TASKS_OF])
    tasks = source.get_read_tasks(source.n_tasks(TASK_BYTES))
    found = {
        "n_files": len(dataset.files),
        "n_windows": sum(map(len, data.windows.values())),
        "manifest_bytes": Path(folder, "manifest.json").stat().st_size,
        "view_bytes": len(cloudpickle.dumps(data)),
        "task_bytes": max(len(cloudpickle.dumps(task)) for task in tasks),
        "opened": opened - started,
        "planned": planned - opened,
        "ordered": ordered - planned,
        "peak_bytes": peak,
    }
    print(json.dumps(found))


def peak_bytes() -> int:
    """Return the most memory that this process has had; getrusage counts that of its parent, too,
    which has written the data set."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) * 1024


if __name__ == "__main__":
    main()
