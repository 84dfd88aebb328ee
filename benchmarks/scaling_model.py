"""The plan for 10 million TRs and 64 GPUs: what would be moved, read and kept, from rates.

    python benchmarks/scaling_model.py --write docs/scaling.md

Measures here what can be: a manifest of 10 million TRs that is opened, split, cut into windows and
ordered, in a process of its own; reading with checksums on one core; the optimizer's bytes beside
a plain copy's; an all-reduce of two processes; a file that is written. What cannot be measured
here is assumed, and named with where it is from. The page is computed from both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed
from large_dataset import write_large_dataset
from machine import CONSOLE, ROOT
from planning import Planned
from random_dataset import PARTS, SUBJECT, write_random_dataset
from scaling_plan import OPTIMIZER_BYTES, page
from target import Target, add_targets, tell

from giblet_ray.dataset.reader import Dataset, Selection

ROW = 9
MOST_SECONDS, MOST_GIB = 10.0, 1.0


def main() -> None:
    """Measure, compute, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trs", type=int, default=10_000_000, help="TRs of all scans together")
    parser.add_argument("--mib", type=int, default=256, help="of what is copied, sent and written")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page that is written")
    add_targets(parser)
    options = parser.parse_args()
    planned = {viewers: plannings(options.trs, viewers, options.repeats) for viewers in (1, 20)}
    rates = measured_rates(options.mib * 2**20, options.repeats)
    text = page(planned, rates)
    CONSOLE.print(text)
    if options.write is not None:
        options.write.write_text(text)
    targets = [target for viewers, each in planned.items() for target in targets_of(viewers, each)]
    tell(targets, options.targets)


def targets_of(viewers: int, planned: Sequence[Planned]) -> Iterator[Target]:
    """Yield the bounds of opening and planning."""
    films = "a film each" if viewers == 1 else f"films that {viewers} saw"
    what = f"open and plan {planned[0].n_trs / 1e6:.3g} million TRs, {films}"
    for unit, most, found in (
        ("s", MOST_SECONDS, [each.seconds for each in planned]),
        ("GiB of the process at its peak", MOST_GIB, [each.peak_bytes / 2**30 for each in planned]),
    ):
        spread = min(found), max(found)
        yield Target(ROW, f"{what} ({unit})", statistics.median(found), most, False, spread)


def plannings(n_trs: int, viewers: int, repeats: int) -> list[Planned]:
    """Open and plan a data set of so many TRs, several times, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="giblet_ray-scaling-") as folder:
        found = write_large_dataset(folder, n_trs, viewers)
        CONSOLE.print(f"{found:,} TRs, films that {viewers} saw: opening and planning")
        command = [sys.executable, str(ROOT / "benchmarks/planning.py"), folder]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return [
            Planned(found, **json.loads(subprocess.check_output(command, env=environment)))
            for _ in range(repeats)
        ]


def measured_rates(n_bytes: int, repeats: int) -> dict[str, list[float]]:
    """Return bytes per second of what can be tried here, of each round."""
    values = torch.ones(n_bytes // 4)
    copy, gradient = torch.empty_like(values), torch.ones_like(values)
    weight = torch.nn.Parameter(values.clone())
    weight.grad = gradient
    optimizer = torch.optim.AdamW([weight], fused=True)
    with tempfile.TemporaryDirectory() as folder, two_processes(n_bytes // 4) as all_reduce:
        data, checkpoint = f"{folder}/data", Path(folder, "checkpoint")
        arrays = write_random_dataset(data, 512, 4096)
        row_bytes = sum(array.nbytes for array in arrays.values())
        work: dict[str, tuple[Callable[[], object], int]] = {
            "copy": (lambda: copy.copy_(values), 2 * n_bytes),
            "AdamW": (optimizer.step, OPTIMIZER_BYTES * len(values)),
            "all-reduce": (all_reduce, n_bytes),
            "read": (lambda: read_all(data), row_bytes),
            "write": (lambda: write(values, checkpoint), n_bytes),
        }
        found: dict[str, list[float]] = {name: [] for name in work}
        for round_ in range(repeats + 1):
            for name, (run, of) in work.items():
                started = time.perf_counter()
                run()
                if round_:
                    found[name].append(of / (time.perf_counter() - started))
    return found


def read_all(folder: str) -> None:
    """Read every row group of a data set, and compare its checksum."""
    dataset = Dataset.open(folder)
    for span in dataset.row_groups():
        dataset.read(span, Selection(PARTS, (SUBJECT,)))


def write(values: torch.Tensor, path: Path) -> None:
    """Write numbers to the disk."""
    with path.open("wb") as stream:
        torch.save(values, stream)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def two_processes(n: int) -> Iterator[Callable[[], None]]:
    """Give what sums n numbers over two processes, by gloo."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        asked, done = context.Queue(), context.Queue()
        processes = [
            context.Process(target=reduce, args=(rank, n, f"{folder}/store", asked, done))
            for rank in range(2)
        ]
        for process in processes:
            process.start()

        def ask() -> None:
            for word in "go", "go":
                asked.put(word)
            for _ in processes:
                done.get()

        try:
            yield ask
        finally:
            for _ in processes:
                asked.put("")
            for process in processes:
                process.join()


def reduce(
    rank: int, n: int, store: str, asked: multiprocessing.Queue, done: multiprocessing.Queue
) -> None:
    """Sum numbers with the other process each time that it is asked for."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    values = torch.ones(n)
    while asked.get():
        torch.distributed.all_reduce(values)
        done.put(rank)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
