"""A data set of random numbers, of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from giblet_ray.dataset.schema import (
    Manifest,
    Scan,
    Source,
    Stimulus,
    bold_shard,
    stimulus_shard,
)
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import value_type, write_manifest, write_shard

SUBJECT = "01"
PARTS = ("frames", "codes", "text")
ROW_GROUP_TRS = 64

Arrays = dict[str, np.ndarray]


def write_random_dataset(
    folder: str, n_rows: int, n_voxels: int, parts: Sequence[str] = PARTS
) -> Arrays:
    """Write two stimuli of ragged lengths that one subject saw; return all rows by part."""
    random = np.random.default_rng(0)
    make: dict[str, Callable[[], np.ndarray]] = {
        "frames": lambda: random.integers(0, 256, (n_rows, 3, 90, 160), dtype=np.uint8),
        "codes": lambda: random.integers(0, 1024, (n_rows, 8, 112)).astype(np.int16),
        "text": lambda: random.standard_normal((n_rows, 1024), dtype=np.float32),
        "bold": lambda: random.standard_normal((n_rows, n_voxels), dtype=np.float32),
    }
    arrays: Arrays = {part: make[part]() for part in (*parts, "bold")}
    storage = Storage.at(folder)
    source = Source(name="random", sha256="0" * 64)
    half = n_rows // 2 + 31
    stimuli, scans = [], []
    for name, rows in {"first": slice(0, half), "second": slice(half, None)}.items():
        shards = {
            part: write_shard(
                storage,
                stimulus_shard(part, name),
                arrays[part][rows],
                ROW_GROUP_TRS,
                {"part": part, "stimulus": name},
            )
            for part in parts
        }
        bold = write_shard(
            storage,
            bold_shard(SUBJECT, name),
            arrays["bold"][rows],
            ROW_GROUP_TRS,
            {"part": "bold", "stimulus": name, "subject": SUBJECT},
        )
        stimuli.append(
            Stimulus.model_validate(
                {
                    "name": name,
                    "n_trs": len(arrays["bold"][rows]),
                    "silent_trs": 0,
                    "sources": {},
                    "shards": shards,
                }
            )
        )
        scans.append(
            Scan(
                subject=SUBJECT,
                stimulus=name,
                nan_voxels=0,
                constant_voxels=0,
                source=source,
                shard=bold,
            )
        )
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=ROW_GROUP_TRS,
        values={part: value_type(values) for part, values in arrays.items()},
        stimuli=tuple(stimuli),
        scans=tuple(scans),
        provenance={},
    )
    write_manifest(storage, manifest)
    return arrays
