"""What the units of a scan are, and how rows of them come from a file and go back to one.

::

    scan --read--> (TRs, units) --> shards, model --> (n, units) --open_files--> files like it

A data set keeps the space of each subject's units, as files beside its shards, so that whatever is
said of units later can be written for the programs that the scans came from.

Shapes: T TRs, V units, N vertices of a hemisphere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError
from giblet_ray.spaces.labels import Labels

SIDES = ("left", "right")
"""Hemispheres, in the order of their units."""


class Series(NamedTuple):
    """Rows that files are begun for."""

    n_trs: int
    """How many will be added."""
    tr_seconds: float
    """Duration of a TR (s)."""
    first_seconds: float
    """Time of the first row (s)."""
    what: str
    """What they are, in at most 79 letters."""


class RowsFile(Protocol):
    """Rows that are appended in order, in one file or several."""

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append rows; NaN where a unit has no value."""


class Space(ABC):
    """What the units are, and in which order. A new kind is a file in this package.

    Attributes
    ----------
    kind : str
        Name of the kind, in manifests.
    endings : tuple of str
        Of the files that :meth:`open_files` writes rows to; the same rows need all of them.
    suffixes : tuple of str
        Endings of the scans that it reads.
    label_suffixes : tuple of str
        Endings of the label images that say which region its units lie in.
    n_units : int
        V.
    n_read : int
        Numbers that :meth:`read` holds of a TR.
    unit_names : tuple of str or None
        What units are called, if they have names.
    """

    kind: ClassVar[str]
    endings: tuple[str, ...]
    suffixes: ClassVar[tuple[str, ...]]
    label_suffixes: ClassVar[tuple[str, ...]] = ()
    n_units: int
    unit_names: tuple[str, ...] | None = None

    @property
    def n_read(self) -> int:
        return self.n_units

    @classmethod
    @abstractmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        """Return the space of a scan that no other file says anything of.

        Raises
        ------
        InputError
            If it is damaged, or does not tell what its units are.
        """

    @classmethod
    def files_of(cls, file: Path) -> tuple[Path, ...]:
        """Return all files of which a scan is that is named by one of them; the first names it.

        Raises
        ------
        InputError
            If one is missing.
        """
        return (file,)

    @classmethod
    def of_labels(cls, file: Path) -> Space:
        """Return the space of the units that a label image says the regions of.

        Raises
        ------
        InputError
            If it is damaged, or none, or there are none of this kind of units.
        """
        raise InputError(f"{file}: there are no label images of units of kind {cls.kind}")

    def labels(self, file: Path) -> Labels:
        """Read in which region each unit lies.

        Raises
        ------
        InputError
            If the label image is damaged, or on another grid than the units, or there are none of
            this kind of units.
        """
        raise InputError(f"{file}: there are no label images of units of kind {self.kind}")

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return all that tells this space from others of its kind, as files by name."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        """Return the space that :meth:`files` were made of.

        Parameters
        ----------
        files : mapping of str to bytes
            Their content by name.
        n_units : int
            Units that it must have.
        where : str
            Data set or record, for messages.

        Raises
        ------
        InputError
            If they are of no such space.
        """

    @abstractmethod
    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        """Return a scan's TRs, from its header.

        Parameters
        ----------
        file : Path
            A scan.
        part : str or None
            Which of the arrays in it, if there are several.
        tr_seconds : float or None
            The TR that a header must not contradict; None if its TR is not to be believed.

        Raises
        ------
        InputError
            If it is no scan, damaged, of other units, or of another TR.
        """

    @abstractmethod
    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        """Read some TRs of a scan that :meth:`n_trs` has looked at, shape (T, V), to be changed.

        Parameters
        ----------
        file, part
            As for :meth:`n_trs`.
        trs : slice
            Which TRs.
        smoothing_fwhm_mm : float or None
            Full width at half maximum of a Gaussian, for units that have distances.

        Raises
        ------
        InputError
            If it is truncated or damaged.
        """

    def smooths(self, file: Path) -> bool:
        """Return whether :meth:`read` can smooth a scan: whether its units have distances."""
        return False

    @abstractmethod
    def open_files(
        self, streams: Sequence[IO[bytes]], series: Series
    ) -> AbstractContextManager[RowsFile]:
        """Begin files like a scan in this space.

        Parameters
        ----------
        streams : sequence of binary streams
            Where they are written, one of each ending.
        series : Series
            What is written.
        """

    def volume(self, values_V: NDArray[Any]) -> Any:
        """Return the numbers of units that are voxels as a 3-D image; None if there are none.

        Parameters
        ----------
        values_V : ndarray
            (V,), NaN where a unit has none, as all places without a unit have.
        """
        return None

    def surface(self, values_V: NDArray[Any]) -> dict[str, NDArray[np.float32]] | None:
        """Return the numbers of units that are vertices, (N,) by side; None if there are none.

        Parameters
        ----------
        values_V : ndarray
            As for :meth:`volume`.
        """
        return None

    @abstractmethod
    def file_bytes(self, n_trs: int) -> int:
        """Return the most that such files take on disk."""
