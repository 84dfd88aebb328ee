"""Verification of a finished data set, down to its last value."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from giblet_ray.dataset.reader import Dataset, Selection, as_arrays
from giblet_ray.dataset.schema import MANIFEST, Manifest, Scan, Shard, Stimulus
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError

_READERS = 8
"""Shards that are read at a time."""


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, and what is wrong with it.

    Attributes
    ----------
    dataset : Dataset
        As its manifest describes it.
    problems : tuple of str
        One line each; none for a data set that is right.
    """

    dataset: Dataset
    problems: tuple[str, ...]


def check_dataset(location: str) -> CheckReport:
    """Verify a data set.

    The manifest against its own checksum; of every file its checksum, its labels and types, and
    that its TRs are those of its stimulus, all and in order; that every stimulus has every part;
    that codes are in their range, embeddings and spectrograms finite; and the counts of silent
    TRs and of NaN and constant voxels.

    Parameters
    ----------
    location : str
        Folder or URI.

    Raises
    ------
    InputError
        If there is no data set, or its manifest cannot be used. What is wrong with the files is
        in the report.
    """
    storage = Storage.at(location)
    if storage.size(MANIFEST) is None:
        raise InputError(
            f"{storage.describe(MANIFEST)}: no such file; a finished data set has one "
            "(jobs/precompute.py writes it last)"
        )
    manifest = Manifest.from_json(storage.read(MANIFEST), storage.describe(MANIFEST))
    dataset = Dataset(
        storage,
        manifest,
        {stimulus.name: stimulus for stimulus in manifest.stimuli},
        {(scan.subject, scan.stimulus): scan for scan in manifest.scans},
    )
    with ThreadPoolExecutor(_READERS) as threads:
        of_shards = list(threads.map(_problem, _shard_checks(dataset)))
    found = [*_missing_parts(dataset), *_strangers(dataset), *filter(None, of_shards)]
    return CheckReport(dataset, tuple(found))


def _missing_parts(dataset: Dataset) -> Iterator[str]:
    """Yield the parts that some stimuli have and others lack."""
    for stimulus in dataset.manifest.stimuli:
        for part in dataset.manifest.values:
            if part != "bold" and part not in stimulus.shards:
                yield f"{dataset.storage.location}: stimulus {stimulus.name} has no {part}/"


def _strangers(dataset: Dataset) -> Iterator[str]:
    """Yield the shards that the manifest does not know."""
    listed = {shard.path for shard in dataset.shards}
    for name in dataset.storage.names():
        folder = name.partition("/")[0]
        if folder in dataset.manifest.values and name.endswith(".parquet") and name not in listed:
            yield f"{dataset.storage.describe(name)}: is not in the manifest"


@dataclass(frozen=True)
class _ShardCheck:
    """A file, and what reading it through the manifest should give."""

    dataset: Dataset
    shard: Shard
    part: str
    stimulus: Stimulus
    selection: Selection
    scan: Scan | None = None

    def values(self) -> Iterator[np.ndarray]:
        """Yield the values (TRs, ...) row group by row group."""
        (column,) = self.selection.columns
        kind = self.selection.value_type(self.dataset, column)
        for span in self.dataset.row_groups():
            if span.stimulus == self.stimulus.name:
                table = self.dataset.read(span, self.selection)
                yield as_arrays(table[column].combine_chunks(), kind)


def _shard_checks(dataset: Dataset) -> list[_ShardCheck]:
    of_stimuli = [
        _ShardCheck(dataset, shard, part, stimulus, Selection(parts=(part,)))
        for stimulus in dataset.manifest.stimuli
        for part, shard in stimulus.shards.items()
    ]
    of_scans = [
        _ShardCheck(
            dataset,
            scan.shard,
            "bold",
            dataset.stimuli[scan.stimulus],
            Selection(subjects=(scan.subject,)),
            scan,
        )
        for scan in dataset.manifest.scans
    ]
    return of_stimuli + of_scans


def _problem(check: _ShardCheck) -> str | None:
    """Return what is wrong with a shard, the gravest thing first."""
    storage, shard = check.dataset.storage, check.shard
    where = storage.describe(shard.path)
    size = storage.size(shard.path)
    if size is None:
        return f"{where}: no such file"
    if size != shard.bytes:
        return f"{where}: {size:,} bytes; the manifest says {shard.bytes:,}"
    if (sha256 := storage.sha256(shard.path)) != shard.sha256:
        return f"{where}: checksum is {sha256[:12]}; the manifest says {shard.sha256[:12]}"
    try:
        wrong = _wrong_values(check)
    except InputError as error:
        return str(error)
    return None if wrong is None else f"{where}: {wrong}"


def _wrong_values(check: _ShardCheck) -> str | None:
    """Return what is wrong with the values; reading them tells labels, types, TRs and codes."""
    if check.scan is not None:
        found = _bad_voxels(check.values())
        said = (check.scan.nan_voxels, check.scan.constant_voxels)
        if found == said:
            return None
        return (
            f"{found[0]} voxels have NaN or infinite values and {found[1]} never change; the "
            f"manifest says {said[0]} and {said[1]}"
        )
    silent = tr = 0
    for values in check.values():
        rows = values.reshape(len(values), -1)
        if rows.dtype.kind == "f" and not (finite := np.isfinite(rows).all(axis=1)).all():
            return f"the value of TR {tr + int(np.argmin(finite))} is not finite"
        silent += int((~rows.any(axis=1)).sum()) if check.part == "text" else 0
        tr += len(rows)
    if check.part == "text" and silent != check.stimulus.silent_trs:
        return f"{silent} TRs are silent; the manifest says {check.stimulus.silent_trs}"
    return None


def _bad_voxels(groups: Iterator[np.ndarray]) -> tuple[int, int]:
    """Count the voxels with values that are not finite, and those of one finite value."""
    first_V: np.ndarray | None = None
    finite_V = same_V = np.array(True)
    for bold_TV in groups:
        first_V = bold_TV[0].copy() if first_V is None else first_V
        finite_V = finite_V & np.isfinite(bold_TV).all(axis=0)
        same_V = same_V & (bold_TV == first_V).all(axis=0)
    return int((~finite_V).sum()), int((finite_V & same_V).sum())
