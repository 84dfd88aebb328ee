"""Cues of annotation tables."""

from __future__ import annotations

import csv
import datetime
import io
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from giblet_ray.errors import InputError
from giblet_ray.features.source import Row, decode_text, is_blank
from giblet_ray.features.subtitles import Cue
from giblet_ray.features.word_lists import words_of_lists

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")

ONSET_HEADERS = ("onset", "onset time", "start", "start time", "begin")
OFFSET_HEADERS = ("offset", "offset time", "end", "end time", "stop", "stop time")
DURATION_HEADERS = ("duration",)
WORD_HEADER = "word"
TEXT_HEADERS = (
    "text",
    "transcript",
    "caption",
    "subtitle",
    "utterance",
    "sentence",
    WORD_HEADER,
    "dialogue",
    "description",
    "annotation",
    "scene details - a level",
)
"""Accepted table headers, after :func:`_normalised_header`. The last is that of the scene
annotations of Sherlock (Chen et al. 2017, doi:10.1038/nn.4450)."""

WORD_LISTS = ("words per tr", "onsets per tr", "durations per tr")
"""Headers of a table of lists, as :func:`_normalised_header` has them."""

RESTART_SECONDS = 10.0
"""A table row that begins this much before the row above it begins another film part."""


def read_table(file: Path, notes: list[str]) -> list[Cue]:
    """Read the rows that hold words, in the file's order; of a workbook, the first sheet's.

    A cell that holds ``n/a`` is empty, as BIDS has it. A table of lists has several words in a row
    (:mod:`giblet_ray.features.word_lists`). Cells that are merged over rows have their value in
    each row that has something of its own beside them.

    Parameters
    ----------
    file : Path
    notes : list of str
        What was repaired is added to it.

    Raises
    ------
    InputError
        The file cannot be decoded or read; a column is missing or there twice; a row has another
        number of cells than the header, or words without times; a cell that spans lines, of a .tsv
        or over what reads as rows; a column of single words, and one that begins before that above
        it.
    """
    suffix = file.suffix.lower()
    rows = _workbook_rows(file) if suffix == ".xlsx" else _delimited_rows(file, suffix)
    header = next(rows, Row(1, [])).cells
    names = [_normalised_header(str(cell or "")) for cell in header]
    if all(name in names for name in WORD_LISTS):
        return words_of_lists(
            file, [names.index(name) for name in WORD_LISTS], _checked(file, rows, header)
        )
    columns = _find_columns(file, [str(cell or "") for cell in header])
    is_of_words = names[columns["text"]] == WORD_HEADER
    cues: list[Cue] = []
    filled: list[int] = []
    for row in _checked(file, rows, header):
        place = f"row {row.number}"
        cell = {role: row.cells[column] for role, column in columns.items()}
        own = [
            at for at in columns.values() if at not in row.filled and not is_blank(row.cells[at])
        ]
        if is_blank(cell["text"]) or not own:
            continue
        filled += [row.number] if row.filled & set(columns.values()) else []
        words = " ".join(str(cell["text"]).split())
        onset = _seconds(cell["onset"], f"{file}, {place}: onset")
        if "duration" in cell and is_blank(cell.get("offset")):
            offset = onset + _seconds(cell["duration"], f"{file}, {place}: duration")
        else:
            offset = _seconds(cell["offset"], f"{file}, {place}: offset")
        before = cues[-1].onset_seconds if is_of_words and cues else -math.inf
        if before - RESTART_SECONDS <= onset < before:
            raise InputError(
                f"{file}, {place}: {words!r} begins at {onset:g} s, and the word above it at "
                f"{before:g} s; the words of a table are in the order in which they are said"
            )
        cues.append(Cue(place, onset, offset, words))
    if filled:
        notes.append(
            f"merged cells: {len(filled)} rows, the first of them row {filled[0]}, have the value "
            "of the cell above that is merged over them"
        )
    return cues


def _checked(file: Path, rows: Iterator[Row], header: list[Any]) -> Iterator[Row]:
    """Yield the rows that are not empty; each has as many cells as the header."""
    for row in rows:
        if all(is_blank(cell) for cell in row.cells):
            continue
        if len(row.cells) != len(header):
            raise InputError(
                f"{file}, row {row.number}: has {len(row.cells)} cells where the header has "
                f"{len(header)}; put a text that holds the separator in double quotes"
            )
        yield row


def _delimited_rows(file: Path, suffix: str) -> Iterator[Row]:
    """Yield the rows of a .csv or .tsv file; their numbers are those of lines."""
    text = decode_text(file)
    lines = text.split("\n")
    delimiter = "\t" if suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    n_cells = 0
    first = 1
    try:
        for cells in reader:
            n_cells = n_cells or len(cells)
            inner = lines[first : reader.line_num]
            if inner and (suffix == ".tsv" or any(_is_row(each, n_cells) for each in inner)):
                raise InputError(
                    f"{file}, row {first}: a cell that begins with a double quote spans the lines "
                    f"to {reader.line_num}; take out the quote, or close it (and double those "
                    "inside)"
                )
            yield Row(reader.line_num, cells)
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file}, row {first}: {error}") from error


def _is_row(line: str, n_cells: int) -> bool:
    """Whether a line within a cell of a .csv file reads as a row: with a number in a cell."""
    cells = line.split(",")
    return len(cells) >= n_cells and any(
        re.fullmatch(r'[\s"]*[\d:.]+[\s"]*', cell) for cell in cells
    )


def _workbook_rows(file: Path) -> Iterator[Row]:
    """Yield the rows of the first sheet; cells merged over rows below the header are filled."""
    import openpyxl

    with warnings.catch_warnings():
        # About formatting and validation rules, which have no part in the cells' values.
        warnings.filterwarnings("ignore", module="openpyxl")
        try:
            book = openpyxl.load_workbook(file, data_only=True)
        except Exception as error:  # zip, XML and key errors, by where the file is broken
            raise InputError(f"{file}: is not a readable .xlsx workbook: {error}") from error
        sheet = book.worksheets[0]
        values = sheet.iter_rows(values_only=True)
        rows = [Row(number, list(cells)) for number, cells in enumerate(values, 1)]
    for merged in sheet.merged_cells.ranges:
        top, column = merged.min_row - 1, merged.min_col - 1
        for row in rows[top + 1 : merged.max_row] if top > 0 else ():
            row.cells[column] = rows[top].cells[column]
            row.filled.add(column)
    yield from rows


def _normalised_header(header: str) -> str:
    """``" Start_Time (s) "`` -> ``"start time"``; other units stay, and are not accepted."""
    words = " ".join(header.replace("_", " ").lower().split())
    return re.sub(r" ?[(\[](s|secs?|seconds)[)\]]$| (secs?|seconds)$", "", words)


def _find_columns(file: Path, header: list[str]) -> dict[str, int]:
    """Find the column of each role; both offset and duration may be there, and offset wins."""
    accepted = {
        "onset": ONSET_HEADERS,
        "offset": OFFSET_HEADERS,
        "duration": DURATION_HEADERS,
        "text": TEXT_HEADERS,
    }
    found_headers = ", ".join(repr(name) for name in header if name.strip()) or "none"
    columns: dict[str, int] = {}
    for role, names in accepted.items():
        matches = [i for i, name in enumerate(header) if _normalised_header(name) in names]
        if len(matches) > 1:
            both = ", ".join(repr(header[i]) for i in matches)
            raise InputError(f"{file}: the columns {both} could each be the {role}; leave one")
        if matches:
            columns[role] = matches[0]
    wanted = (
        ("onset", columns.keys() & {"onset"}, ONSET_HEADERS),
        ("offset", columns.keys() & {"offset", "duration"}, OFFSET_HEADERS + DURATION_HEADERS),
        ("text", columns.keys() & {"text"}, TEXT_HEADERS),
    )
    missing = [f"{role} ({', '.join(names)})" for role, found, names in wanted if not found]
    if missing:
        raise InputError(f"{file}: columns found: {found_headers}; missing: {'; '.join(missing)}")
    return columns


def _seconds(cell: Any, what: str) -> float:
    """Read a time in seconds, ``mm:ss``, ``hh:mm:ss``, or a spreadsheet's time of day."""
    if isinstance(cell, datetime.timedelta):
        return cell.total_seconds()
    if isinstance(cell, datetime.time):
        return 3600 * cell.hour + 60 * cell.minute + cell.second + cell.microsecond / 1e6
    text = "" if cell is None else str(cell).strip()
    if match := re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)", text):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if isinstance(cell, bool) or not math.isfinite(value):
        raise InputError(f"{what} is {text!r}; expected seconds or hh:mm:ss")
    return value


def choose_part(cues: list[Cue], file: Path, part: str | None) -> list[Cue]:
    """Keep the cues of one film part: of the only one, or of the part so numbered, from 1.

    A part ends where the onsets fall back by more than ``RESTART_SECONDS``.

    Raises
    ------
    InputError
        There are several parts and none is chosen, or the chosen one is not there.
    """
    parts: list[list[Cue]] = []
    previous = math.inf
    for cue in cues:
        onset = cue.onset_seconds
        if not parts or onset < previous - RESTART_SECONDS:
            parts.append([])
        parts[-1].append(cue)
        previous = onset
    if part is None:
        if len(parts) > 1:
            raise InputError(
                f"{file}, {parts[1][0].place}: the onsets fall back from "
                f"{parts[0][-1].onset_seconds:g} s to "
                f"{parts[1][0].onset_seconds:g} s, as in a table of {len(parts)} film "
                f"parts; choose one ({file.name}::1 to {file.name}::{len(parts)}), or sort the "
                "rows by onset if they belong to one film"
            )
        return cues
    if not part.isdecimal() or not 1 <= int(part) <= len(parts):
        raise InputError(
            f"{file}: part {part!r} is not in the table; accepted: 1 to {len(parts)} "
            "(a part ends where the onsets fall back)"
        )
    return parts[int(part) - 1]
