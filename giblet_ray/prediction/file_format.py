"""Forms of others in which predictions of several subjects are one file: ``--format NAME``.

A form is a class ``Format`` in a file of its name in :mod:`giblet_ray.prediction.formats`, or a
class of a lab's own, ``my_lab.formats:Mine``.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, ClassVar

import numpy as np

from giblet_ray.errors import InputError, nearest
from giblet_ray.plugins import is_import_path, load_object, package_of
from giblet_ray.prediction import formats

Wanted = Mapping[str, Mapping[str, int]]
"""BOLD TRs of each stimulus, by subject."""
Whole = Mapping[str, Mapping[str, np.ndarray]]
"""Predictions (TRs, units) float32 of each stimulus, by subject."""


class FileFormat(ABC):
    """A form of predictions, and what it asks for.

    Attributes
    ----------
    ending : str
        Of the file.
    """

    ending: ClassVar[str]

    @abstractmethod
    def wanted(self, samples: Sequence[str]) -> Wanted:
        """Read the files of ``--samples``: whose response to what is asked for, of what length.

        Subjects and stimuli are called as model and data set call them.

        Raises
        ------
        InputError
            If one cannot be used.
        """

    def notes(self, wanted: Wanted) -> list[str]:
        """Return what a user should know of what is asked for."""
        return []

    @abstractmethod
    def check_units(self, subject: str, n_units: int) -> None:
        """Raise InputError if a subject's predictions have other units than are asked for."""

    @abstractmethod
    def write(self, stream: IO[bytes], stem: str, predicted: Whole, wanted: Wanted) -> None:
        """Write predictions that are whole; `stem` is the file's name without its ending."""


def find_format(name: str, packages: Iterable[str] = ()) -> FileFormat:
    """Return the form of a name: one that is built in, or one of the user's own.

    Parameters
    ----------
    name : str
        Such as ``algonauts2025``, or ``my_lab.formats:Mine``.
    packages : iterable of str
        Packages that may be imported; that of a path which is typed may.

    Raises
    ------
    InputError
        If there is none, or its package cannot be imported.
    """
    built_in = [module.name for module in pkgutil.iter_modules(formats.__path__)]
    if is_import_path(name):
        found = load_object(name, {*packages, package_of(name)}, "--format")
    elif name in built_in:
        found = importlib.import_module(f"{formats.__name__}.{name}").Format
    else:
        raise InputError(
            f"--format {name!r}: no such form{nearest(name, built_in)}; {', '.join(built_in)}, or "
            "a path such as my_lab.formats:Mine, are accepted"
        )
    if not (isinstance(found, type) and issubclass(found, FileFormat)):
        raise InputError(f"--format {name}: is no form; a subclass of FileFormat is accepted")
    return found()
