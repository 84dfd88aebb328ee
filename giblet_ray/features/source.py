"""The files that a user names, and where they mean a part of one, which part."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from giblet_ray.errors import InputError, one_line


def split_source(path: str | Path) -> tuple[Path, str | None]:
    """Separate ``file::part`` into the file and the part's name.

    A part is a data set of an HDF5 file (``scan.h5::bold``), one film's rows in a table that
    annotates several (``annotations.xlsx::2``), or one of a film's sound tracks (``film.mkv::2``).
    A folder may have ``::`` in its name.

    Returns
    -------
    file : Path
    part : str or None
        None where the whole file is meant.

    Raises
    ------
    InputError
        The file does not exist, is no file, or is empty.
    """
    pieces = str(path).split("::")
    names = ["::".join(pieces[:n]) for n in range(len(pieces), 0, -1)]
    name = next((each for each in names if Path(each).is_file()), pieces[0])
    _, separator, part = str(path)[len(name) :].partition("::")
    file = Path(name)
    if not file.exists():
        if file.is_symlink():
            raise InputError(
                f"{name}: is a link to a file that is not here; of a DataLad data set: datalad get"
            )
        raise InputError(f"{name}: no such file")
    if not file.is_file():
        raise InputError(f"{name}: is a folder, where a file is expected")
    if file.stat().st_size == 0:
        raise InputError(f"{name}: the file is empty (0 bytes)")
    if separator and not part:
        raise InputError(f"{path}: nothing follows '::'; name the part, or leave '::' out")
    return file, part or None


def matching_files(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Return the files that names and patterns stand for: ``films/s[1-6]/*a.mkv``.

    ``*`` stands for anything within a name, ``?`` for a sign, ``[1-6]`` for one of some. A name
    that is there is meant as it is, whatever signs it has.

    Parameters
    ----------
    names : iterable of str
        Files, ``file::part``, or patterns of either.
    where : str
        The setting that they are of, for messages.

    Returns
    -------
    tuple of str
        In the order of the names; what one pattern stands for in the order of its names.

    Raises
    ------
    InputError
        A pattern that no file's name is like.
    """
    found: list[str] = []
    for name in names:
        pattern, separator, part = name.partition("::")
        if not re.search(r"[*?[]", pattern) or Path(pattern).exists():
            found.append(name)
            continue
        files = files_like(pattern)
        if not files:
            raise InputError(f"{where} {name}: no file is named so")
        found += [f"{file}{separator}{part}" for file in files]
    return tuple(found)


def files_like(pattern: str) -> list[str]:
    """Return the files whose names are like a pattern's, in order."""
    return sorted(glob.glob(pattern))  # noqa: PTH207  # Path's takes no absolute pattern


def read_whole(file: Path) -> bytes:
    """Return the content of a small file.

    Raises
    ------
    InputError
        It may not be read, or the disk that it is on does not answer.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from error


def decode_text(file: Path) -> str:
    """Read UTF-8, or UTF-16 with its byte order mark, with newlines as "\\n".

    Byte order marks are no text, wherever they stand, as in files that were joined; nor is a
    carriage return too many a line of its own.

    Another encoding is an error and not a guess: a wrong guess yields wrong words that nobody
    notices.

    Raises
    ------
    InputError
        A byte that the encoding does not have; a file that cannot be read.
    """
    data = read_whole(file)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: byte {error.start} is not {encoding[:6].rstrip('-')}; save the file as "
            "UTF-8 (for a Western Windows file: iconv -f cp1252 -t utf-8)"
        ) from error
    return re.sub(r"\r+\n|\r", "\n", text.replace("\ufeff", ""))


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    number: int
    """For an error to name."""
    cells: list[Any]
    filled: set[int] = field(default_factory=set)
    """Cells that have their value from the cell above, which is merged over them."""


def is_blank(cell: Any) -> bool:
    """Tell whether a cell holds nothing: BIDS writes n/a for what is missing."""
    return cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "n/a"))
