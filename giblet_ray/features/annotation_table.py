"""Cues of annotation tables."""

from __future__ import annotations

import csv
import datetime
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from giblet_ray.errors import InputError
from giblet_ray.features.source import decode_text
from giblet_ray.features.subtitles import Cue

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

RESTART_SECONDS = 10.0
"""A table row that begins this much before the row above it begins another film part."""


def read_table(file: Path) -> list[Cue]:
    """Read the rows that hold words, in the file's order; of a workbook, the first sheet's.

    Raises
    ------
    InputError
        The file cannot be decoded or read; a column is missing or there twice; a row has another
        number of cells than the header, or words without times; a column of single words, and one
        that begins before that above it.
    """
    suffix = file.suffix.lower()
    rows = _workbook_rows(file) if suffix == ".xlsx" else _delimited_rows(file, suffix)
    header = next(rows, (1, []))[1]
    columns = _find_columns(file, [str(cell or "") for cell in header])
    is_of_words = _normalised_header(str(header[columns["text"]])) == WORD_HEADER
    cues: list[Cue] = []
    for number, cells in rows:
        if all(_is_blank(cell) for cell in cells):
            continue
        place = f"row {number}"
        if len(cells) != len(header):
            raise InputError(
                f"{file}, {place}: has {len(cells)} cells where the header has {len(header)}; "
                "put a text that holds the separator in double quotes"
            )
        cell = {role: cells[column] for role, column in columns.items()}
        words = "" if _is_blank(cell["text"]) else " ".join(str(cell["text"]).split())
        if not words:
            continue
        onset = _seconds(cell["onset"], f"{file}, {place}: onset")
        if "offset" in cell:
            offset = _seconds(cell["offset"], f"{file}, {place}: offset")
        else:
            offset = onset + _seconds(cell["duration"], f"{file}, {place}: duration")
        before = cues[-1].onset_seconds if is_of_words and cues else -math.inf
        if before - RESTART_SECONDS <= onset < before:
            raise InputError(
                f"{file}, {place}: {words!r} begins at {onset:g} s, and the word above it at "
                f"{before:g} s; the words of a table are in the order in which they are said"
            )
        cues.append(Cue(place, onset, offset, words))
    return cues


def _delimited_rows(file: Path, suffix: str) -> Iterator[tuple[int, list[Any]]]:
    """Yield (line number, cells)."""
    delimiter = "\t" if suffix == ".tsv" else ","
    reader = csv.reader(
        decode_text(file).splitlines(keepends=True), delimiter=delimiter, strict=True
    )
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{file}, row {reader.line_num}: {error}") from error


def _workbook_rows(file: Path) -> Iterator[tuple[int, list[Any]]]:
    """Yield (row number, cells) of the first sheet."""
    import openpyxl

    with warnings.catch_warnings():
        # About formatting and validation rules, which have no part in the cells' values.
        warnings.filterwarnings("ignore", module="openpyxl")
        try:
            book = openpyxl.load_workbook(file, data_only=True)
        except Exception as error:  # zip, XML and key errors, by where the file is broken
            raise InputError(f"{file}: is not a readable .xlsx workbook: {error}") from error
        sheet = book.worksheets[0]
        for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
            yield number, list(cells)


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


def _is_blank(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


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
