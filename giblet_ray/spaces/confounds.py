"""fMRIPrep's confounds tables: one row per TR, one column per nuisance regressor.

T is the number of TRs, C of chosen confounds.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line
from giblet_ray.features.source import read_whole, split_source
from giblet_ray.spaces.kinds import files_of_scan


def find_confounds(scan: Path, confounds_path: str | None) -> Path:
    """Find a scan's table: the one given, or by its name in the folder given or the scan's own.

    fMRIPrep names it as the scan, without what tells derivatives apart:
    ``sub-1_task-film_space-X_desc-preproc_bold.nii.gz`` has
    ``sub-1_task-film_desc-confounds_timeseries.tsv`` (``_regressors.tsv`` before version 20.2).

    Raises
    ------
    InputError
        There is no such table, or the scan is not named as fMRIPrep names scans.
    """
    folder = scan.parent if confounds_path is None else Path(confounds_path)
    if not folder.is_dir():
        return split_source(folder)[0]
    derivative = r"(_(space|cohort|res|den|hemi|desc)-[A-Za-z0-9]+)*_bold\..+$"
    stem, found = re.subn(derivative, "", scan.name)
    if not found:
        raise InputError(
            f"{scan}: does not end in _bold as fMRIPrep's scans do, so that its confounds table "
            "cannot be found by name; give confounds_path"
        )
    tables = [folder / f"{stem}_desc-confounds_{kind}.tsv" for kind in ("timeseries", "regressors")]
    for table in tables:
        if table.exists():
            return table
    raise InputError(f"{scan}: no confounds table {tables[0]}; give confounds_path")


def read_confounds(table: Path, names: Sequence[str], n_trs: int) -> NDArray[np.float64]:
    """Read columns of a confounds table.

    fMRIPrep writes "n/a" in the first row of derivatives. As in
    ``nilearn.interfaces.fmriprep.load_confounds``, the second row's value takes its place.

    Parameters
    ----------
    table : Path
    names : sequence of str
        C columns.
    n_trs : int
        T, of the scan as it was made.

    Returns
    -------
    numpy.ndarray, float64, (T, C)

    Raises
    ------
    InputError
        Another number of rows than T; a column that is not there; a value that is no number.
    """
    header, rows = _read_table(table)
    if len(rows) != n_trs:
        raise InputError(f"{table}: has {len(rows)} rows, where the scan's file has {n_trs} TRs")
    confounds_TC = np.empty((n_trs, len(names)))
    for c, name in enumerate(names):
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1, cutoff=0)[0]
            raise InputError(f"{table}: has no confound {name!r}; the nearest is {near!r}")
        column = header.index(name)
        for tr, row in enumerate(rows):
            cell = row[column] if column < len(row) else ""
            confounds_TC[tr, c] = _number(cell)
            underivable = tr == 0 and n_trs > 1 and cell == "n/a"
            if not (math.isfinite(confounds_TC[tr, c]) or underivable):
                raise InputError(
                    f"{table}, row {tr + 2}: {name!r} is {cell!r}; expected a number ('n/a' is "
                    "accepted in the first TR alone)"
                )
    confounds_TC[0] = np.where(np.isnan(confounds_TC[0]), confounds_TC[1 % n_trs], confounds_TC[0])
    return confounds_TC


def outlier_trs(table: Path, beginnings: Sequence[str], n_trs: int) -> list[int]:
    """Return the TRs that any column of which the name begins so marks by a number but 0.

    fMRIPrep writes a column for each outlier, and none where there is none.

    Raises
    ------
    InputError
        As for :func:`read_confounds`.
    """
    names = [name for name in _read_table(table)[0] if name.startswith(tuple(beginnings))]
    marked_T = read_confounds(table, names, n_trs).any(axis=1)
    return np.flatnonzero(marked_T).tolist()


def strategy_confounds(
    scan: str, strategies: Sequence[str], n_trs: int
) -> tuple[tuple[str, ...], list[int]]:
    """Return the columns that strategies of nilearn take, and the volumes that they leave out.

    See ``nilearn.interfaces.fmriprep.load_confounds``, whose other settings are its defaults.

    Parameters
    ----------
    scan : str
        A scan as fMRIPrep names them, its table beside it.
    strategies : sequence of str
        Such as motion, wm_csf, scrub.
    n_trs : int
        Of the scan.

    Raises
    ------
    InputError
        For a strategy that there is not, and a table that lacks what it takes.
    """
    from nilearn.interfaces.fmriprep import load_confounds

    files = list(files_of_scan(scan))
    try:
        table, kept = load_confounds(files if len(files) > 1 else files[0], tuple(strategies))
    except (ValueError, OSError, KeyError, TypeError) as error:
        where = f"--scan.strategy {','.join(strategies)}: {scan}"
        raise InputError(f"{where}: {one_line(error)}") from error
    columns = () if table is None else tuple(map(str, table.columns))
    left = set(range(n_trs)) - set(range(n_trs) if kept is None else map(int, kept))
    return columns, sorted(left)


def _read_table(table: Path) -> tuple[list[str], list[list[str]]]:
    """Return a table's header and rows."""
    content = read_whole(table)
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
        header, *rows = [row for row in csv.reader(lines, delimiter="\t") if row]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{table}: is not a readable table: {error}") from error
    return header, rows


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
