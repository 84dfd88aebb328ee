"""What BIDS says of a scan in a .json file beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.source import read_whole

_TR_TOLERANCE_SECONDS = 1e-3


def read_sidecar(file: Path) -> Any:
    """Return the content of a .json file.

    Raises
    ------
    InputError
        If it is none, or cannot be read.
    """
    content = read_whole(file)
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{file}: is not readable JSON: {one_line(error)}") from error


def check_sidecar_tr(scan: Path, ending: str, tr_seconds: float) -> None:
    """Compare RepetitionTime, if a file beside a scan states one, with the TR, to 1 ms.

    Parameters
    ----------
    scan : Path
    ending : str
        The scan's ending, in whose place the other file's name has .json.
    tr_seconds : float
        The TR that is set.

    Raises
    ------
    InputError
        If it is another, or the file cannot be read.
    """
    sidecar = scan.with_name(scan.name[: -len(ending)] + ".json")
    if not sidecar.is_file():
        return
    try:
        stated = read_sidecar(sidecar)["RepetitionTime"]
    except (KeyError, TypeError):  # it speaks of something else
        return
    is_number = isinstance(stated, int | float)
    if not is_number or abs(stated - tr_seconds) > _TR_TOLERANCE_SECONDS:
        raise InputError(
            f"{sidecar}: RepetitionTime is {stated}, where {tr_seconds:g} s is set; give that as "
            "--tr_seconds, or, if the file is wrong, --scan.ignore_header_tr"
        )
