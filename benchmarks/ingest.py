"""How fast and in how much memory a data set reaches the workers, beside the obvious other ways.

    python benchmarks/ingest.py --rows 8192 --voxels 4096 --batch-trs 64

Makes a data set of random numbers in a temporary folder, checks that every way delivers the right
rows, and prints four tables:

reading
    all shards into the object store through Ray Data, every row group compared with its checksum,
    beside pyarrow reading the same files in this process with all its threads, comparing nothing.
first pass
    from the files to the end of one shuffled epoch, delivered to one worker: through the object
    store, and streamed from disk; by PyTorch's DataLoader with a worker per core that indexes
    memory-mapped .npy files, a batch at a time; and by MosaicML Streaming, where it is installed
    (benchmarks/ingest_peers.py says how), with as many workers. What starts workers is in it.
batches
    one shuffled epoch of what is held: by giblet_ray; in windows of several TRs with the context
    before them, whose rows are those of the stimulus, context or not; by Ray Data's own iterator
    over the same blocks (block order randomised and a local shuffle buffer, Arrow batches, so that
    nothing is converted); and by indexing shuffled rows of torch tensors in memory, as
    ``tensor[index]`` and as index_select into reused buffers.
memory
    so many worker processes that share out the batches of epochs from the same blocks: the object
    store (shared memory) and the workers' private memory, at their peak.

Contenders take turns, and a ratio is the median over the rounds: on a machine that others use at
the same time, single numbers wander and ratios within a round less so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import ray
import torch
from ingest_memory import watch_epochs
from ingest_peers import mosaicml_streaming, torch_workers
from ingest_ways import FROM_STORE, HELD, INTO_STORE, SCAN, STREAMED, Batches, Ways
from machine import CONSOLE, MiB, cpu_model
from memory import print_memory, shared_bytes
from random_dataset import ROW_GROUP_TRS, write_random_dataset
from rates import Rates, compare, print_rates
from target import Target, add_targets, tell

from giblet_ray.cluster import connect
from giblet_ray.dataset.reader import Dataset

WITH_CONTEXT = "giblet_ray, windows with context"
DATA_LOADER = "PyTorch DataLoader workers"
MOSAICML = "MosaicML Streaming"


def main() -> None:
    """Parse, write the data set, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=8192, help="TRs in the data set")
    parser.add_argument("--voxels", type=int, default=4096, help="voxels per TR (float32)")
    parser.add_argument("--batch-trs", type=int, default=64, help="TRs per batch")
    parser.add_argument("--repeats", type=int, default=7, help="rounds, after one to warm up")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="at a time")
    add_targets(parser)
    options = parser.parse_args()

    # By itself it takes as many threads as OMP_NUM_THREADS says, which is meant for others.
    pa.set_cpu_count(os.cpu_count() or 1)
    connect()
    with tempfile.TemporaryDirectory() as folder:
        arrays = write_random_dataset(f"{folder}/ours", options.rows, options.voxels)
        shared_before = shared_bytes()
        ways = Ways(Dataset.open(f"{folder}/ours"), arrays, options.batch_trs)
        print_machine(ways)
        # First, while nothing but the blocks lies in the object store.
        memory = [watch_epochs(ways.plan, ways.refs, shared_before, n) for n in options.workers]
        print_memory(memory, ways.n_bytes)
        passes = ways.first_pass() | peers(arrays, Path(folder), options.batch_trs)
        held = ways.batches()
        for name, deliver in (passes | held).items():
            check(name, deliver(0), arrays)
        check(WITH_CONTEXT, ways.with_context(0), arrays)
        # In one comparison, so that each round has the ratios to the scan.
        read = compare(ways.reading() | exhausting(passes), options.repeats)
        delivered = compare(
            exhausting(held) | {WITH_CONTEXT: ways.count_with_context}, options.repeats
        )
    print_rates("reading, and the first pass", read, ways.row_bytes)
    print_rates("batches, shuffled, to one worker", delivered, ways.row_bytes)
    tell(targets(read, delivered), options.targets)


def peers(
    arrays: dict[str, np.ndarray], folder: Path, batch_trs: int
) -> dict[str, Callable[[int], Batches]]:
    """Write the same rows for the peers that are installed; return what delivers them."""
    found: dict[str, Callable[[int], Batches]] = {}
    makers: dict[str, Callable[..., Callable[[int], Batches] | None]] = {
        DATA_LOADER: torch_workers,
        MOSAICML: mosaicml_streaming,
    }
    for name, make in makers.items():
        of_peer = folder / name
        of_peer.mkdir()
        deliver = make(arrays, of_peer, batch_trs)
        if deliver is None:
            CONSOLE.print(f"{name}: not installed, left out (see benchmarks/ingest_peers.py)")
        else:
            found[name] = deliver
    return found


def exhausting(ways: Mapping[str, Callable[[int], Batches]]) -> dict[str, Callable[[int], int]]:
    """Return what takes all batches of an epoch and counts their rows."""
    return {name: partial(exhaust, deliver) for name, deliver in ways.items()}


def exhaust(deliver: Callable[[int], Batches], epoch: int) -> int:
    """Take all batches of an epoch; return the number of rows."""
    return sum(len(rows) for _, rows in deliver(epoch))


def check(name: str, batches: Batches, arrays: dict[str, np.ndarray]) -> None:
    """Raise unless every row comes once and every batch holds the rows that it says."""
    seen = np.zeros(len(arrays["bold"]), dtype=int)
    for values, rows in batches:
        seen[rows] += 1
        for part, expected in arrays.items():
            if not np.array_equal(values[part], expected[rows]):
                raise RuntimeError(f"{name}: {part} differs from what was written")
    if (seen != 1).any():
        raise RuntimeError(f"{name}: {int((seen != 1).sum())} rows not delivered exactly once")


def print_machine(ways: Ways) -> None:
    """Say what is measured, and on what."""
    load, _, _ = os.getloadavg()
    CONSOLE.print(
        f"{cpu_model()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; "
        f"load of others and this {load:.1f}; ray {ray.__version__}, torch {torch.__version__}, "
        f"pyarrow {pa.__version__}\n{ways.plan.n_rows:,} rows of {ways.row_bytes:,} bytes, "
        f"{ways.n_bytes / MiB:,.0f} MiB, row groups of {ROW_GROUP_TRS}, batches of "
        f"{ways.plan.batch_trs}; files in the page cache"
    )


def targets(read: dict[str, Rates], held: dict[str, Rates]) -> list[Target]:
    """Return the ratios that were promised."""
    fastest = max(
        (read[name] for name in (DATA_LOADER, MOSAICML) if name in read), key=lambda r: r.median
    )
    tensors = max(
        (rates for name, rates in held.items() if name.startswith("tensor")),
        key=lambda rates: rates.median,
    )
    found = [
        ("first pass / pyarrow scan", read[FROM_STORE].over(read[SCAN]), 0.6),
        ("first pass / faster peer", read[FROM_STORE].over(fastest), 1),
        ("streamed / pyarrow scan", read[STREAMED].over(read[SCAN]), 0.5),
        ("streamed / faster peer", read[STREAMED].over(fastest), 1),
        ("into the object store / pyarrow scan", read[INTO_STORE].over(read[SCAN]), 0.6),
        ("batches / tensor[index]", held[HELD].over(tensors), 4),
        ("batches / Ray Data iter_batches", held[HELD].over(held["Ray Data iter_batches"]), 5),
        ("with context / without, by stimulus rows", held[WITH_CONTEXT].over(held[HELD]), 1),
    ]
    return [
        Target(4, what, statistics.median(ratios), bound, True, (min(ratios), max(ratios)))
        for what, ratios, bound in found
    ]


if __name__ == "__main__":
    main()
