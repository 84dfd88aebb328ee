"""Tables as BIDS writes them: parted by tabs, with a header."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from giblet_ray.errors import InputError


class Table(NamedTuple):
    """A table's columns, and each of its rows with the line that it ends in, from 1.

    What a row has beyond the header is its cell "".
    """

    columns: list[str]
    rows: list[tuple[int, dict[str, str | None]]]


def read_tsv(path: str | Path, where: str) -> Table:
    """Read a table.

    Parameters
    ----------
    path : str or Path
    where : str
        The table, for messages.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with Path(path).expanduser().open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines, delimiter="\t", restkey="")
            columns = list(table.fieldnames or [])
            return Table(columns, [(table.line_num, row) for row in table])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where}: cannot be read: {error}") from error
