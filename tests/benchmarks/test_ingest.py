"""The benchmark of the data's way to the workers."""

from __future__ import annotations

import re

RATIO = r"[0-9.]+ \([0-9.]+ to [0-9.]+\)"


def test_every_way_delivers_the_rows_that_were_written_and_is_set_beside_the_others(run_benchmark):
    sizes = {"rows": 256, "voxels": 32, "batch-trs": 32, "repeats": 1}
    words = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    said = run_benchmark("ingest.py", *words, "--workers", 1, 2)

    # A way that loses, repeats or changes a row raises before its table is printed.
    for row in (
        "giblet_ray into the object store",
        "giblet_ray, streamed from disk",
        "giblet_ray, windows with context",
        "Ray Data iter_batches",
        "Ray Data random_shuffle, Arrow",
        r"tensor\[index\], 1 thread",
        "index_select into buffers, 1 thread",
    ):
        assert re.search(rf"│ {row} +│ [0-9,]+ +│ .*?│ {RATIO} +│", said), row
    for n_workers in (1, 2):
        assert re.search(rf"│ {n_workers} +│ [-0-9,]+ +│ [-0-9,]+ +│", said)
    ratios = ("reading / pyarrow scan", r"batches / tensor\[index\]", "with context / without")
    for ratio in ratios:
        assert re.search(rf"│ {ratio}[a-z ,]* +│ {RATIO} +│", said)
    assert re.search(r"memory for data per additional worker: -?[0-9]+ MiB", said)
