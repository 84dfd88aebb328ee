"""Code of the user's own, found by its import path: ``my_lab.gaze:Gaze``.

What a user types is imported. What a record from storage names (a checkpoint, a sweep, a run in
MLflow) is imported only if its package is among those that the user names with ``--packages``:
reading somebody's results must not run somebody's code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from typing import Any

from giblet_ray.errors import InputError, nearest

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""``module:name``."""


def is_import_path(name: str) -> bool:
    """Tell an import path (``my_lab.gaze:Gaze``) from the name of something built in."""
    return ":" in name


def package_of(path: str) -> str:
    """Return the package that an import path leads into: ``my_lab``."""
    return path.partition(":")[0].partition(".")[0]


def load_object(path: str, packages: Iterable[str], where: str) -> Any:
    """Import what an import path names.

    Parameters
    ----------
    path : str
        ``module:name``, such as ``my_lab.gaze:Gaze``.
    packages : iterable of str
        Packages that the user allows to be imported: those of ``--packages``, and
        :func:`package_of` each path that the user typed.
    where : str
        Setting or record that the path stands in, for messages.

    Raises
    ------
    InputError
        If it is no import path, its package is not allowed or not installed, importing it fails,
        or it holds no such name.
    """
    if not IMPORT_PATH.fullmatch(path):
        raise InputError(f"{where} {path!r}: module:name is accepted, such as my_lab.gaze:Gaze")
    package = package_of(path)
    if package not in set(packages):
        raise InputError(
            f"{where} {path}: is code of the package {package}, which is not imported unasked; "
            f"if you trust it, add --packages {package}"
        )
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module of the user's does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"{where} {path}: {module_name} cannot be imported ({reason}); it is to be installed, "
            "or in a folder of PYTHONPATH, on every machine"
        ) from error
    if not hasattr(module, name):
        raise InputError(
            f"{where} {path}: {module_name} has no {name}{nearest(name, list(vars(module)))}"
        )
    return getattr(module, name)
