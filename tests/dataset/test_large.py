"""Opening and planning large data sets: work and memory grow no faster than what there is."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cloudpickle
import pytest
from large_dataset import write_large_dataset

from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.order import DataOrder, StreamedOrder
from giblet_ray.dataset.reader import Dataset, Selection
from giblet_ray.dataset.source import ShardSource
from giblet_ray.dataset.view import DataView, view_data

PARTS = ("frames", "codes", "text")
PACKAGE = f"{Path(sys.modules['giblet_ray'].__path__[0])}/"
TEN_MILLION, GIB = 10_000_000, 2**30
OF_IMPORTS = 150 * 2**20
"""What Python takes with all that planning imports, at most."""


def plan(folder: Path, streamed: bool = True) -> DataView:
    """Open a data set, cut it into windows of one TR, and order an epoch of 64 workers."""
    data = view_data(Dataset.open(str(folder)), DataConfig(), PARTS, head_per_subject=True)
    order = DataOrder(
        seed=0,
        windows=len(data.train),
        batch_size=512,
        smallest_batch=64,
        streamed=StreamedOrder(row_group_trs=64, lanes=64) if streamed else None,
    )
    assert data.ordered(order).steps(0, 3, 64)
    assert len(data.uses) == len(data.scans)
    assert data.describe()["checksum"]
    return data


def bytecodes(work: Callable[[], Any]) -> int:
    """Count the instructions of Python that the package executes meanwhile."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize("viewers", [1, 10])
@pytest.mark.parametrize("streamed", [True, False])
def test_twice_the_trs_take_twice_the_work(tmp_path: Path, viewers: int, streamed: bool) -> None:
    counts = []
    for n_trs in (20_000, 40_000):
        folder = tmp_path / str(n_trs)
        found = write_large_dataset(str(folder), n_trs, viewers)
        counts.append(bytecodes(lambda folder=folder: plan(folder, streamed)) / found)
    few, many = counts
    assert many < 1.1 * few


def test_ten_million_trs_would_take_less_than_a_gib(tmp_path: Path) -> None:
    n_trs = write_large_dataset(str(tmp_path), 100_000, 1)
    plan(tmp_path)  # what is imported and kept once
    tracemalloc.start()
    try:
        data = plan(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(windows) for windows in data.windows.values()) > 0.8 * n_trs
    assert peak / n_trs * TEN_MILLION + OF_IMPORTS < GIB


def test_a_read_task_carries_the_films_that_it_reads(tmp_path: Path) -> None:
    sizes = {}
    for n_trs in (20_000, 80_000):
        folder = str(tmp_path / str(n_trs))
        write_large_dataset(folder, n_trs, 2)
        dataset = Dataset.open(folder)
        source = ShardSource(dataset, Selection(PARTS, dataset.subjects), dataset.row_groups())
        tasks = source.get_read_tasks(len(dataset.stimuli))
        sizes[n_trs] = max(len(cloudpickle.dumps(task)) for task in tasks)
    assert sizes[80_000] < 1.2 * sizes[20_000]
