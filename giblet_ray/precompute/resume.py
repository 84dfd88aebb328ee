"""What a folder already holds of the data set that is to be made in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from giblet_ray.checkpoint.claim import is_claim
from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, one_line
from giblet_ray.parts.built_in import BUILT_IN
from giblet_ray.precompute.provenance import records_of
from giblet_ray.precompute.units import BOLD, WORK, Record, Unit, record_path, write_record

_READERS = 8
"""Shards that are verified at a time."""


def existing(storage: Storage) -> Manifest | None:
    """Return the manifest of the data set that a folder holds, if it holds one.

    Raises
    ------
    InputError
        If the manifest cannot be used, or if the place is a file or a folder of something else.
    """
    if storage.is_file():
        raise InputError(f"--out {storage.location}: is a file; a folder is expected")
    found = {name for name in storage.entries() if not is_claim(name)}
    if MANIFEST in found:
        try:
            return Manifest.from_json(storage.read(MANIFEST), storage.describe(MANIFEST))
        except InputError as error:
            raise InputError(f"{error}; delete the folder first, or give another --out") from error
    if found and WORK not in found:
        raise InputError(
            f"--out {storage.location}: holds no data set, and something else ({min(found)}); "
            "give a new or empty folder"
        )
    return None


def begin(storage: Storage) -> None:
    """Mark a folder as that of an unfinished data set.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    try:
        with storage.write(f"{WORK}/README") as stream:
            stream.write(b"An unfinished data set: jobs/precompute.py, started again, goes on.\n")
    except OSError as error:
        raise InputError(
            f"--out {storage.location}: cannot be written: {one_line(error)}"
        ) from error


def finished(
    storage: Storage, units: Sequence[Unit], manifest: Manifest | None
) -> dict[str, Record]:
    """Return the records of the shards that need not be made again, by path.

    Their checksums have been compared with the files, several at a time.

    Raises
    ------
    InputError
        If there is a finished data set that was made of other files or with other settings.
    """
    if manifest is None:
        records = _noted_records(storage, units)
    else:
        records = records_of(manifest)
        _refuse_other(storage, units, records)
    wanted = [
        records[unit.path]
        for unit in units
        if unit.path in records and records[unit.path].fingerprint == unit.fingerprint
    ]

    def is_whole(record: Record) -> bool:
        shard = record.shard
        size = storage.size(shard.path)
        return size == shard.bytes and storage.sha256(shard.path) == shard.sha256

    with ThreadPoolExecutor(_READERS) as threads:
        whole = threads.map(is_whole, wanted)
        return {record.shard.path: record for record, ok in zip(wanted, whole, strict=True) if ok}


def reopen(storage: Storage, kept: Mapping[str, Record]) -> None:
    """Make a finished data set an unfinished one of which some shards are kept."""
    for record in kept.values():
        write_record(storage, record)
    storage.delete(MANIFEST)


def delete_leftovers(storage: Storage, listed: Mapping[str, Record]) -> None:
    """Delete the shards that an interrupted run left and that are no part of the data set."""
    noted = [name.removeprefix(f"{WORK}/") for name in storage.names(WORK)]
    folders = {*BUILT_IN, BOLD, *(path.partition("/")[0] for path in (*noted, *listed))}
    for name in storage.names():
        folder, _, rest = name.partition("/")
        if folder in folders and ".parquet" in rest and name not in listed:
            storage.delete(name)


def delete_work(storage: Storage) -> None:
    """Delete what only an unfinished data set needs."""
    if WORK in storage.entries():
        storage.delete_folder(WORK)


def check_space(storage: Storage, units: Sequence[Unit]) -> None:
    """Raise InputError if the shards to be written do not fit on a local disk."""
    if not storage.is_local:
        return
    needed = sum(unit.nbytes for unit in units)
    free = shutil.disk_usage(storage.root).free
    if needed > free:
        raise InputError(
            f"--out {storage.location}: {needed / 1e9:.1f} GB are to be written and "
            f"{free / 1e9:.1f} GB are free there"
        )


def _noted_records(storage: Storage, units: Sequence[Unit]) -> dict[str, Record]:
    names = set(storage.names(WORK))
    records = {}
    for unit in units:
        if (path := record_path(unit.path)) in names:
            try:
                records[unit.path] = Record.model_validate_json(storage.read(path))
            except ValidationError:  # Another release's: the shard is made again.
                continue
    return records


def _refuse_other(storage: Storage, units: Sequence[Unit], records: Mapping[str, Record]) -> None:
    planned = {unit.path: unit.fingerprint for unit in units}
    there = {path: record.fingerprint for path, record in records.items()}
    if planned == there:
        return
    if missing := sorted(planned.keys() - there.keys()):
        what = f"it has no {missing[0]}"
    elif surplus := sorted(there.keys() - planned.keys()):
        what = f"it has {surplus[0]} too"
    else:
        path = min(path for path in planned if planned[path] != there[path])
        what = f"{path} is of another file, or made with other settings or library versions"
    raise InputError(
        f"--out {storage.location}: holds a finished data set, and not this one: {what}; "
        "give another --out"
    )
