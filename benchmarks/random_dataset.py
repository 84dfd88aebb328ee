"""A data set of random numbers, of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from noise import TR_SECONDS

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
    half = n_rows // 2 + 31
    films = {"first": slice(0, half), "second": slice(half, n_rows)}
    stored = {part: stored_part(part, arrays[part]) for part in parts}
    write_arrays(folder, films, arrays, stored, {SUBJECT: arrays["bold"]})
    return arrays


def write_arrays(
    folder: str,
    films: Mapping[str, slice],
    arrays: Mapping[str, np.ndarray],
    parts: Mapping[str, StoredPart],
    bold: Mapping[str, np.ndarray],
) -> None:
    """Write rows as a data set of films that all subjects saw.

    Parameters
    ----------
    folder : str
        Where to.
    films : mapping of str to slice
        The rows of each.
    arrays : mapping of str to ndarray
        (rows, *shape) of each part.
    parts : mapping of str to StoredPart
        What they are.
    bold : mapping of str to ndarray
        (rows, units) of each subject.
    """
    storage, source = Storage.at(folder), Source(name="random", sha256="0" * 64)
    stimuli, scans = [], []
    for name, rows in films.items():
        n_trs = rows.stop - rows.start

        def write(
            path: str, values: np.ndarray, labels: dict[str, str], rows: slice = rows
        ) -> Shard:
            return write_shard(storage, path, values[rows], ROW_GROUP_TRS, labels)

        shards = {
            part: write(stimulus_shard(part, name), arrays[part], stimulus_labels(part, name))
            for part in parts
        }
        phase = Phase(n_trs=n_trs, shards=shards)
        stimuli.append(Stimulus(name=name, sources={}, phases=(phase,)))
        for subject, values in bold.items():
            key = ScanKey(subject, name)
            scans.append(
                Scan(
                    subject=subject,
                    stimulus=name,
                    volumes=(0, n_trs),
                    source=source,
                    shard=write(bold_shard(*key), values, bold_labels(key)),
                )
            )
    manifest = Manifest(
        tr_seconds=TR_SECONDS,
        row_group_trs=ROW_GROUP_TRS,
        parts=dict(parts),
        stimuli=tuple(stimuli),
        subjects={subject: Subject(value=value_type(of)) for subject, of in bold.items()},
        scans=tuple(scans),
    )
    write_manifest(storage, manifest)
