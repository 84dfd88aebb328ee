"""Tables of what a data set holds."""

from __future__ import annotations

from rich.table import Table

from giblet_ray.dataset.reader import Dataset


def contents_tables(dataset: Dataset) -> list[Table]:
    """Return what is in a data set: by stimulus, by scan, and by part."""
    tables = [_stimuli(dataset), _scans(dataset), _parts(dataset)]
    return [table for table in tables if table.row_count]


def _stimuli(dataset: Dataset) -> Table:
    manifest = dataset.manifest
    table = _table(["stimulus"], ["TRs", "hours", "silent TRs", "scans"])

    def add(name: str, n_trs: int, silent_trs: int, n_scans: int) -> None:
        hours = n_trs * manifest.tr_seconds / 3600
        silent = f"{silent_trs:,}" if "text" in manifest.values else "no text"
        table.add_row(name, f"{n_trs:,}", f"{hours:.2f}", silent, f"{n_scans:,}")

    for stimulus in manifest.stimuli:
        n_scans = sum(scan.stimulus == stimulus.name for scan in manifest.scans)
        add(stimulus.name, stimulus.n_trs, stimulus.silent_trs, n_scans)
    table.add_section()
    n_trs = sum(stimulus.n_trs for stimulus in manifest.stimuli)
    silent_trs = sum(stimulus.silent_trs for stimulus in manifest.stimuli)
    add("all", n_trs, silent_trs, len(manifest.scans))
    return table


def _scans(dataset: Dataset) -> Table:
    table = _table(["subject", "stimulus"], ["TRs", "voxels", "NaN voxels", "constant voxels"])
    for scan in dataset.manifest.scans:
        counts = (
            dataset.stimuli[scan.stimulus].n_trs,
            dataset.n_voxels,
            scan.nan_voxels,
            scan.constant_voxels,
        )
        table.add_row(scan.subject, scan.stimulus, *(f"{count:,}" for count in counts))
    return table


def _parts(dataset: Dataset) -> Table:
    table = _table(["part", "one TR"], ["files", "bytes"])
    for part, kind in dataset.manifest.values.items():
        shards = [shard for shard in dataset.shards if shard.path.startswith(f"{part}/")]
        table.add_row(
            part,
            f"{kind.dtype} {' x '.join(map(str, kind.shape))}",
            f"{len(shards):,}",
            f"{sum(shard.bytes for shard in shards):,}",
        )
    table.add_section()
    n_bytes = sum(shard.bytes for shard in dataset.shards)
    table.add_row("all", "", f"{len(dataset.shards):,}", f"{n_bytes:,}")
    return table


def _table(names: list[str], numbers: list[str]) -> Table:
    table = Table()
    for column in names:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", overflow="fold")
    return table
