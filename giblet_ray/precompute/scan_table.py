"""The table of scans: ``--scan.table``, one row per scan, of what differs between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from giblet_ray.errors import InputError, nearest
from giblet_ray.features.tsv import read_tsv

COLUMNS = (
    "subject",
    "stimulus",
    "repeat",
    "file",
    "first_volume",
    "last_volume",
    "onset_seconds",
    "film_offset_seconds",
    "crop_start_trs",
    "crop_stop_trs",
    "scrub",
)
"""All that a table may have; subject and stimulus it must."""

_MISSING = ("", "n/a")


@dataclass(frozen=True)
class ScanRow:
    """What a table says of one scan; None: nothing."""

    where: str
    """File and line, for messages."""
    subject: str
    stimulus: str
    """Whose scan it is, and of which film."""
    repeat: str | None = None
    """Which time, as the scans' names tell it."""
    file: str | None = None
    """The file that it is in, beside the table."""
    first_volume: int | None = None
    last_volume: int | None = None
    """Its volumes in the file, from 0, both included."""
    onset_seconds: float | None = None
    """When its film begins, after its first volume (s); negative: before."""
    film_offset_seconds: float = 0.0
    """How far into the film it begins (s)."""
    crop_start_trs: int | None = None
    crop_stop_trs: int | None = None
    """TRs at its start and end that are not taken."""
    scrub: tuple[tuple[int, int], ...] = ()
    """Its volumes [start, stop), ..., that neither train nor judge."""

    @property
    def says_when(self) -> bool:
        """Whether it says when the film begins, so that no length need be guessed from."""
        return self.onset_seconds is not None


def read_scan_table(path: str) -> list[ScanRow]:
    """Read a tab-separated table with a header of some of :data:`COLUMNS`.

    An empty cell and BIDS's ``n/a`` say nothing. Scrubbed volumes are counted from the scan's
    first, from 0: ``3,17-19``.

    Raises
    ------
    InputError
        If it cannot be read; for a column that is not known, a row without subject or stimulus, a
        cell that is no number where one belongs, and two rows of one scan.
    """
    where = f"--scan.table {path}"
    columns, rows = read_tsv(path, where)
    for column in columns:
        if column not in COLUMNS:
            raise InputError(
                f"{where}: column {column!r} is not known{nearest(column, COLUMNS)}; accepted, "
                f"parted by tabs: {', '.join(COLUMNS)}"
            )
    for column in ("subject", "stimulus"):
        if column not in columns:
            raise InputError(f"{where}: has no column {column}; it says whose scan a row is of")
    found = [
        _row(f"{where}, line {line}", row, Path(path).expanduser().parent)
        for line, row in rows
        if any(row.values())
    ]
    of_scan: dict[tuple[str, str, str | None], ScanRow] = {}
    for row in found:
        same = of_scan.setdefault((row.subject, row.stimulus, row.repeat), row)
        if same is not row:
            raise InputError(
                f"{row.where}: is of the same scan as line {same.where.rpartition(' ')[2]}, "
                f"{in_words(row)}; a row for each scan is accepted, with the repeat of those that "
                "were seen again"
            )
    return found


def in_words(row: ScanRow) -> str:
    """Return which scan a row is of."""
    again = "" if row.repeat is None else f", repeat {row.repeat}"
    return f"subject {row.subject}, {row.stimulus}{again}"


def _row(where: str, cells: dict[str, str | None], folder: Path) -> ScanRow:
    if "" in cells:
        raise InputError(f"{where}: has more cells than the header")
    said = {
        name: cell.strip()
        for name, cell in cells.items()
        if cell is not None and cell.strip().lower() not in _MISSING
    }
    for name in ("subject", "stimulus"):
        if name not in said:
            raise InputError(f"{where}: has no {name}")

    def whole(name: str) -> int | None:
        if name not in said:
            return None
        if not said[name].isdecimal():
            raise InputError(f"{where}: {name} is {said[name]!r}; accepted: 0 or more, whole")
        return int(said[name])

    def seconds(name: str) -> float | None:
        if name not in said:
            return None
        try:
            value = float(said[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{where}: {name} is {said[name]!r}; accepted: seconds")
        return value

    first, last = whole("first_volume"), whole("last_volume")
    if last is not None and last < (first or 0):
        raise InputError(
            f"{where}: volumes {first or 0} to {last}; the last is not before the first"
        )
    offset = seconds("film_offset_seconds") or 0.0
    if offset < 0:
        raise InputError(f"{where}: film_offset_seconds is {offset:g}; accepted: 0 or more")
    file = said.get("file")
    return ScanRow(
        where,
        said["subject"].removeprefix("sub-"),
        said["stimulus"],
        said.get("repeat"),
        None if file is None else str(folder / file),
        first,
        last,
        seconds("onset_seconds"),
        offset,
        whole("crop_start_trs"),
        whole("crop_stop_trs"),
        _ranges(where, said.get("scrub", "")),
    )


def _ranges(where: str, text: str) -> tuple[tuple[int, int], ...]:
    """Return what ``3,17-19`` means: (3, 4), (17, 20)."""
    ranges = []
    for piece in filter(None, (each.strip() for each in text.split(","))):
        first, dash, last = (each.strip() for each in piece.partition("-"))
        ends = (first, last if dash else first)
        if not all(end.isdecimal() for end in ends) or int(ends[1]) < int(ends[0]):
            raise InputError(f"{where}: scrub is {text!r}; accepted: volumes such as 3,17-19")
        ranges.append((int(ends[0]), int(ends[1]) + 1))
    return tuple(sorted(ranges))


def check_ranges(rows: Sequence[tuple[ScanRow, str, tuple[int, int]]]) -> None:
    """Refuse scans of one file that share volumes.

    Parameters
    ----------
    rows : sequence of (ScanRow, str, (int, int))
        Rows, the file of each, and its volumes [first, stop).
    """
    of_file: dict[str, list[tuple[tuple[int, int], ScanRow]]] = {}
    for row, file, volumes in rows:
        of_file.setdefault(file, []).append((volumes, row))
    for file, ranges in of_file.items():
        ranges.sort(key=lambda each: each[0])
        for (one, before), (other, row) in itertools.pairwise(ranges):
            if other[0] < one[1]:
                raise InputError(
                    f"{row.where}: volumes {other[0]} to {other[1] - 1} of {file}, of which line "
                    f"{before.where.rpartition(' ')[2]} has {one[0]} to {one[1] - 1}; scans of one "
                    "file share no volume"
                )
