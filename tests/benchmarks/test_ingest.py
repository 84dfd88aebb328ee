"""The benchmark of the data's way to the workers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from target import read_targets

RATIO = r"[0-9.]+ \([0-9.]+ to [0-9.]+\)"


@pytest.mark.heavy
def test_every_way_delivers_the_rows_that_were_written_and_is_set_beside_the_others(
    run_benchmark, tmp_path: Path
):
    sizes = {"rows": 256, "voxels": 32, "batch-trs": 32, "repeats": 1}
    words = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    file = tmp_path / "targets.json"
    said = run_benchmark("ingest.py", *words, "--workers", 1, 2, "--targets", file)

    # A way that loses, repeats or changes a row raises before its table is printed.
    for row in (
        "giblet_ray into the object store",
        "giblet_ray, through the object store",
        "giblet_ray, streamed from disk",
        "PyTorch DataLoader workers",
        "giblet_ray, windows with context",
        "Ray Data iter_batches",
        "Ray Data random_shuffle, Arrow",
        r"tensor\[index\], 1 thread",
        "index_select into buffers, 1 thread",
    ):
        assert re.search(rf"│ {row} +│ [0-9,]+ +│ .*?│ {RATIO} +│", said), row
    for n_workers in (1, 2):
        assert re.search(rf"│ {n_workers} +│ [-0-9,]+ +│ [-0-9,]+ +│", said)
    targets = read_targets(file)
    assert [target.what for target in targets if target.bound in (0.5, 0.6)] == [
        "first pass / pyarrow scan",
        "streamed / pyarrow scan",
        "into the object store / pyarrow scan",
    ]
    assert {target.row for target in targets} == {4}
    assert all(target.found > 0 for target in targets)
