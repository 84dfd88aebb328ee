"""What a run that is judged is called, and the folder of what is said of it."""

from __future__ import annotations

import posixpath

from giblet_ray.checkpoint.record import Record


def name_of(record: Record, n_folds: int = 1) -> str:
    """Return the name of a run, of a training in folds, or of a trial, as in ``night-0003``: those
    of two sweeps have the same numbers.

    Parameters
    ----------
    record : Record
        Of the run, or of one of its folds.
    n_folds : int
        Folds that are judged as one.
    """
    name: str = record.config["name"]
    if name.isdecimal():
        return f"{posixpath.basename(record.config['storage']['path'])}-{name}"
    return name if n_folds == 1 else name.rpartition("-fold")[0]


def folder_of(out: str | None, name: str) -> str:
    """Return the folder or URI that what is said of a run is written to, below ``--out``."""
    return f"{out or 'evaluation'}/{name}"
