"""A data set of random numbers, of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from giblet_ray.dataset.layout import (
    ScanKey,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Phase, Scan, Shard, Source, Stimulus, StoredPart, Subject
from giblet_ray.dataset.writer import value_type, write_manifest, write_shard

SUBJECT = "01"
PARTS = ("frames", "codes", "text")
ROW_GROUP_TRS = 64

Arrays = dict[str, np.ndarray]


ENCODERS = {"frames": "image", "codes": "codes", "text": "vector"}


def stored_part(part: str, values: np.ndarray) -> StoredPart:
    """Describe a part of random numbers."""
    return StoredPart(kind=part, modality=part, encoder=ENCODERS[part], value=value_type(values))


def write_random_dataset(
    folder: str,
    n_rows: int,
    n_voxels: int,
    parts: Sequence[str] = PARTS,
    bold: np.ndarray | None = None,
) -> Arrays:
    """Write two stimuli of ragged lengths that one subject saw; return all rows by part.

    BOLD is white noise, unless it is given.
    """
    random = np.random.default_rng(0)
    make: dict[str, Callable[[], np.ndarray]] = {
        "frames": lambda: random.integers(0, 256, (n_rows, 3, 90, 160), dtype=np.uint8),
        "codes": lambda: random.integers(0, 1024, (n_rows, 8, 112)).astype(np.int16),
        "text": lambda: random.standard_normal((n_rows, 1024), dtype=np.float32),
        "bold": lambda: random.standard_normal((n_rows, n_voxels), dtype=np.float32),
    }
    arrays: Arrays = {part: make[part]() for part in (*parts, "bold")}
    if bold is not None:
        arrays["bold"] = bold
    storage = Storage.at(folder)
    source = Source(name="random", sha256="0" * 64)
    half = n_rows // 2 + 31
    stimuli, scans = [], []
    for name, rows in {"first": slice(0, half), "second": slice(half, None)}.items():
        n_trs = len(arrays["bold"][rows])

        def write(path: str, labels: dict[str, str], part: str, rows: slice = rows) -> Shard:
            return write_shard(storage, path, arrays[part][rows], ROW_GROUP_TRS, labels)

        shards = {p: write(stimulus_shard(p, name), stimulus_labels(p, name), p) for p in parts}
        phase = Phase(n_trs=n_trs, shards=shards)
        stimuli.append(Stimulus(name=name, sources={}, phases=(phase,)))
        key = ScanKey(SUBJECT, name)
        scans.append(
            Scan(
                subject=SUBJECT,
                stimulus=name,
                volumes=(0, n_trs),
                source=source,
                shard=write(bold_shard(*key), bold_labels(key), "bold"),
            )
        )
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=ROW_GROUP_TRS,
        parts={part: stored_part(part, arrays[part]) for part in parts},
        stimuli=tuple(stimuli),
        subjects={SUBJECT: Subject(value=value_type(arrays["bold"]))},
        scans=tuple(scans),
    )
    write_manifest(storage, manifest)
    return arrays
