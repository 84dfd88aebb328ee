"""Verification of a finished data set, down to its last value."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import BLOBS, bold_column, bold_labels, stimulus_labels
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.stored import Phase, Scan, Shard, WrittenFile
from giblet_ray.errors import InputError
from giblet_ray.parts.built_in import SPOKEN
from giblet_ray.parts.value import ValueType
from giblet_ray.spaces.usable import count_bad_units, unmasked

_READERS = 8
"""Shards that are read at a time."""


@dataclass(frozen=True)
class CheckReport:
    """What a data set holds, and what is wrong with it."""

    dataset: Dataset
    """As its manifest describes it."""
    problems: tuple[str, ...]
    """One line each; none for a data set that is right."""


def check_dataset(location: str) -> CheckReport:
    """Verify a data set.

    The manifest against its own checksum; of every file its checksum, its labels and types, and
    that its TRs are those of its stimulus or scan, all and in order; that all phases of a stimulus
    have the same parts; that codes are in their range, embeddings and spectrograms finite; the
    masked TRs, and the counts of silent TRs and of NaN and constant units.

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
    dataset = Dataset.described(location)
    with ThreadPoolExecutor(_READERS) as threads:
        of_shards = list(threads.map(_shard_problem, _shard_checks(dataset)))
        of_blobs = list(threads.map(partial(_file_problem, dataset), dataset.manifest.blobs))
    found = [*_missing_parts(dataset), *_strangers(dataset), *filter(None, of_shards + of_blobs)]
    return CheckReport(dataset, tuple(found))


def _missing_parts(dataset: Dataset) -> Iterator[str]:
    """Yield the parts that some phases of a stimulus have and others lack."""
    for stimulus in dataset.manifest.stimuli:
        for part in {part: None for phase in stimulus.phases for part in phase.shards}:
            if not all(part in phase.shards for phase in stimulus.phases):
                where = dataset.storage.location
                yield f"{where}: stimulus {stimulus.name} has {part}/ at some phases only"


def _strangers(dataset: Dataset) -> Iterator[str]:
    """Yield the files that the manifest does not know."""
    listed = {file.path for file in dataset.files}
    for name in dataset.storage.names():
        folder = name.partition("/")[0]
        of_rows = folder in (*dataset.manifest.parts, "bold") and name.endswith(".parquet")
        if (of_rows or folder == BLOBS) and name not in listed:
            yield f"{dataset.storage.describe(name)}: is not in the manifest"


@dataclass(frozen=True)
class _ShardCheck:
    """A file, and what reading it through the manifest should give."""

    dataset: Dataset
    shard: Shard
    labels: dict[str, str]
    kind: ValueType
    n_trs: int
    of: Phase | Scan

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield first TR and values (TRs, ...) of every row group."""
        step = self.dataset.manifest.row_group_trs
        for start in range(0, self.n_trs, step):
            stop = min(start + step, self.n_trs)
            rows = self.dataset.read_shard(self.shard, self.labels, self.n_trs, start, stop)
            yield start, as_arrays(rows, self.kind)


def _shard_checks(dataset: Dataset) -> Iterator[_ShardCheck]:
    for stimulus in dataset.manifest.stimuli:
        for index, phase in enumerate(stimulus.phases):
            for part, shard in phase.shards.items():
                labels, kind = stimulus_labels(part, stimulus.name, index), dataset.value_type(part)
                yield _ShardCheck(dataset, shard, labels, kind, phase.n_trs, phase)
    for scan in dataset.manifest.scans:
        kind = dataset.value_type(bold_column(scan.subject))
        yield _ShardCheck(dataset, scan.shard, bold_labels(scan.key), kind, scan.n_trs, scan)


def _file_problem(dataset: Dataset, file: WrittenFile) -> str | None:
    """Return what is wrong with a file's bytes, the gravest thing first."""
    storage, where = dataset.storage, dataset.storage.describe(file.path)
    size = storage.size(file.path)
    if size is None:
        return f"{where}: no such file"
    if size != file.bytes:
        return f"{where}: {size:,} bytes; the manifest says {file.bytes:,}"
    if (sha256 := storage.sha256(file.path)) != file.sha256:
        return f"{where}: checksum is {sha256[:12]}; the manifest says {file.sha256[:12]}"
    return None


def _shard_problem(check: _ShardCheck) -> str | None:
    """Return what is wrong with a shard, the gravest thing first."""
    if (problem := _file_problem(check.dataset, check.shard)) is not None:
        return problem
    try:
        of = check.of
        wrong = _wrong_bold(check, of) if isinstance(of, Scan) else _wrong_part(check, of)
    except InputError as error:
        return str(error)
    return wrong and f"{check.dataset.storage.describe(check.shard.path)}: {wrong}"


def _wrong_bold(check: _ShardCheck, scan: Scan) -> str | None:
    """Return what is wrong with a scan's counts; reading it tells labels, types and TRs."""
    usable_T = unmasked(scan.n_trs, scan.masked_trs)
    unlisted: list[int] = []

    def used() -> Iterator[np.ndarray]:
        for first, bold_TV in check.blocks():
            used_T = usable_T[first : first + len(bold_TV)]
            empty_T = used_T & ~np.isfinite(bold_TV).any(axis=1)
            unlisted.extend((first + np.flatnonzero(empty_T)).tolist())
            yield bold_TV[used_T]

    found = count_bad_units(used())
    if unlisted:
        return f"TR {unlisted[0]} has no finite value, and is not among the masked TRs"
    if (found.nan, found.constant) == (scan.nan_units, scan.constant_units):
        return None
    return (
        f"{found.nan} units have NaN or infinite values and {found.constant} never change; the "
        f"manifest says {scan.nan_units} and {scan.constant_units}"
    )


def _wrong_part(check: _ShardCheck, phase: Phase) -> str | None:
    """Return what is wrong with a part's values; reading tells labels, types, TRs and numbers."""
    silent = 0
    is_spoken = check.dataset.manifest.parts[check.labels["part"]].kind in SPOKEN
    for _, values in check.blocks():
        rows = values.reshape(len(values), -1)
        silent += int((~rows.any(axis=1)).sum()) if is_spoken else 0
    if is_spoken and silent != phase.silent_trs:
        return f"{silent} TRs are silent; the manifest says {phase.silent_trs}"
    return None
