"""Tables of what a data set holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from rich.table import Table

from giblet_ray.dataset.layout import BLOBS, bold_column
from giblet_ray.dataset.reader import Dataset
from giblet_ray.parts.built_in import SPOKEN


def contents_tables(dataset: Dataset) -> list[Table]:
    """Return what is in a data set: by stimulus, by scan, and by part."""
    tables = [_stimuli(dataset), _scans(dataset), _parts(dataset)]
    return [table for table in tables if table.row_count]


def _stimuli(dataset: Dataset) -> Table:
    manifest = dataset.manifest
    spoken = {name for name, part in manifest.parts.items() if part.kind in SPOKEN}
    table = _table(["stimulus"], ["TRs", "hours", "silent TRs", "scans"], ["without"])

    def add(name: str, n_trs: int, silent_trs: int, n_scans: int, lacks: Collection[str]) -> None:
        hours = n_trs * manifest.tr_seconds / 3600
        silent = f"{silent_trs:,}" if spoken.difference(lacks) else "no text"
        table.add_row(name, f"{n_trs:,}", f"{hours:.2f}", silent, f"{n_scans:,}", ", ".join(lacks))

    n_scans = Counter(scan.stimulus for scan in manifest.scans)
    for stimulus in manifest.stimuli:
        lacks = [part for part in manifest.parts if part not in stimulus.shards]
        add(stimulus.name, stimulus.n_trs, stimulus.silent_trs, n_scans[stimulus.name], lacks)
    table.add_section()
    n_trs = sum(stimulus.n_trs for stimulus in manifest.stimuli)
    silent_trs = sum(stimulus.silent_trs for stimulus in manifest.stimuli)
    add("all", n_trs, silent_trs, len(manifest.scans), ())
    return table


def _scans(dataset: Dataset) -> Table:
    numbers = ["repeat", "TRs", "film TRs without", "units", "NaN units", "constant units"]
    table = _table(["subject", "stimulus"], numbers)
    for scan in dataset.manifest.scans:
        usable = dataset.usable_trs(scan.key)
        counts = (
            scan.repeat,
            int(usable.sum()),
            int((~usable[: dataset.film_trs(scan.key)]).sum()),
            dataset.manifest.subjects[scan.subject].n_units,
            scan.nan_units,
            scan.constant_units,
        )
        table.add_row(scan.subject, scan.stimulus, *(f"{count:,}" for count in counts))
    return table


def _parts(dataset: Dataset) -> Table:
    table = _table(["part", "one TR"], ["files", "bytes"])

    def add(name: str, one_tr: str, folder: str) -> None:
        files = [file for file in dataset.files if file.path.startswith(f"{folder}/")]
        if files:
            n_bytes = sum(file.bytes for file in files)
            table.add_row(name, one_tr, f"{len(files):,}", f"{n_bytes:,}")

    for part, stored in dataset.manifest.parts.items():
        kind = stored.value
        add(part, f"{kind.dtype} {' x '.join(map(str, kind.shape))}", part)
    for subject, whose in dataset.manifest.subjects.items():
        column, kind = bold_column(subject), whose.value
        add(column, f"{kind.dtype} {kind.shape[0]} ({whose.space.kind})", column)
    add(BLOBS, "", BLOBS)
    table.add_section()
    n_bytes = sum(file.bytes for file in dataset.files)
    table.add_row("all", "", f"{len(dataset.files):,}", f"{n_bytes:,}")
    return table


def _table(names: list[str], numbers: list[str], more: Sequence[str] = ()) -> Table:
    table = Table()
    for column in names:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold")
    for column in more:
        table.add_column(column, overflow="fold")
    return table
