"""Labels of units: which region of an atlas each unit lies in, and what regions are called.

A label image gives every place a whole number, 0 where there is no region. CIFTI and GIFTI files
say what the numbers are called; of a NIfTI image, a table says it.

V is the number of units.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.features.source import decode_text, split_source

_TABLES = (".tsv", ".txt", ".csv")
_NUMBER_COLUMNS = ("index", "id", "label", "value", "key", "number")
_NAME_COLUMNS = ("name", "label", "region", "roi")
_NOT_LABELS = (*_NAME_COLUMNS, "background")
"""Lines of a list of names that are none."""

_NUMBER = re.compile(r"-?\d+(?:\.\d*)?")
_NUMBERED_LINE = re.compile(rf"({_NUMBER.pattern})\s+(.+?)(?:(?:\s+{_NUMBER.pattern}){{3,4}})?")
"""Number, name, and perhaps a colour, which is three numbers or four."""


@dataclass(frozen=True)
class Labels:
    """Regions of units."""

    of_units_V: NDArray[np.int64]
    """Number of each unit's region; 0: in none."""
    names: dict[int, str]
    """What each region is called, by number, in ascending order; some may have no unit."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Place of each unit's region among the names; -1: in none."""
        numbers = np.array([*self.names])
        index_V = np.searchsorted(numbers, self.of_units_V).clip(max=len(numbers) - 1)
        return np.where(numbers[index_V] == self.of_units_V, index_V, -1)

    def named_by(self, table: Path, image: Path) -> Labels:
        """Return these labels as a table names them, in which a region may have no unit.

        Raises
        ------
        InputError
            If it lacks a region that the image has.
        """
        names = read_label_table(table)
        if missing := sorted(self.names.keys() - names.keys()):
            listed = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
            raise InputError(f"{table}: does not name label {listed}, which {image} has")
        return Labels(self.of_units_V, names)


def whole_numbers(values: NDArray, file: Path) -> NDArray[np.int64]:
    """Return a label image's values.

    Raises
    ------
    InputError
        If some are no whole numbers from 0 on, or all are 0.
    """
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.floor(values)).any():
        raise InputError(
            f"{file}: a label image holds whole numbers from 0 on, this file others between "
            f"{np.nanmin(values):g} and {np.nanmax(values):g}"
        )
    if not values.any():
        raise InputError(f"{file}: has no labels: all of its {values.size} numbers are 0")
    return values.astype(np.int64)


def find_label_table(image: Path) -> Path | None:
    """Return the table beside a label image that has its name, as BIDS has it, if there is one."""
    stem = image.name.removesuffix(".gz").rpartition(".")[0]
    tables = [image.with_name(stem + ending) for ending in _TABLES]
    return next((table for table in tables if table.is_file()), None)


def read_label_table(path: str | Path) -> dict[int, str]:
    """Read what the labels of an atlas are called.

    Columns ``index`` and ``name`` (BIDS), or the number and the name in the first two columns
    (FreeSurfer, Schaefer), below a header or without, or one name per line, of 1, 2, ... Tabs,
    commas or blanks are between columns. Lines that begin with ``#``, and the background, are no
    labels.

    Returns
    -------
    dict of int to str
        In ascending order of the numbers.

    Raises
    ------
    InputError
        If it is no such table, or a number is there twice.
    """
    file, _ = split_source(path)
    if file.suffix.lower() not in _TABLES:
        raise InputError(f"{file}: a table of labels ends in {', '.join(_TABLES)}")
    lines = [line for line in decode_text(file).split("\n") if line.strip()]
    rows = _rows([line for line in lines if not line.startswith("#")])
    names: dict[int, str] = {}
    for number, name in rows:
        if number.isdecimal() and int(number) not in names and (name or not int(number)):
            names[int(number)] = name
            continue
        raise InputError(
            f"{file}: found the label {number!r}, {name!r}; a whole number and a name is accepted, "
            "each number once, in the first two columns or those called index and name"
        )
    names.pop(0, None)
    if not names:
        raise InputError(f"{file}: names no labels")
    return dict(sorted(names.items()))


def _rows(lines: list[str]) -> list[tuple[str, str]]:
    """Return number and name in each line."""
    delimiter = next((each for each in "\t," if lines and each in lines[0]), None)
    if delimiter is None:
        cells = [_between_blanks(line) for line in lines]
    else:
        cells = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    number, name = 0, 1
    if cells and not _NUMBER.fullmatch(cells[0][0]):
        header = [cell.lower() for cell in cells.pop(0)]
        known = [header.index(each) for each in _NUMBER_COLUMNS if each in header]
        number = next((each for each in known if _has_numbers(cells, each)), 0)
        if delimiter is None and not _has_numbers(cells, number):
            called = [line.strip() for line in lines if line.strip().lower() not in _NOT_LABELS]
            return [(str(each), name) for each, name in enumerate(called, 1)]
        known = [header.index(each) for each in _NAME_COLUMNS if each in header]
        name = next((each for each in known if each != number), 0 if number else 1)
    padded = [row + [""] * (max(number, name) + 1 - len(row)) for row in cells]
    return [(row[number], row[name]) for row in padded]


def _between_blanks(line: str) -> list[str]:
    """Return the columns of a line: the words after a number are one name, up to its colour."""
    found = _NUMBERED_LINE.fullmatch(line.strip())
    return line.split() if found is None else [*found.groups()]


def _has_numbers(cells: list[list[str]], column: int) -> bool:
    return any(_NUMBER.fullmatch(cell) for row in cells for cell in row[column : column + 1])
