"""What a part of a data set declares: its settings, how it is made, and how a model reads it.

::

    film, text, arrays --value, recipe--> what there will be, before anything is started
                       --prepare--------> what all workers hold, made once (a codec)
                       --make-----------> one film's rows, by a worker: a shard
                       --reading--------> a model's input

A part is made by a plain task, or, if it has a network, by workers that load it once and then make
one film after another, on a GPU where there is any (``has_network``). What takes long is cut into
pieces that several workers make at a time (:class:`PartInPieces`).
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from giblet_ray.errors import InputError
from giblet_ray.features.clock import exact_seconds
from giblet_ray.parts.reading import Reading, find_reading
from giblet_ray.parts.value import ValueType
from giblet_ray.plugins import is_import_path
from giblet_ray.settings import Group

FILM, TEXT = "film", "text"
"""Roles of a film's files; each of its arrays is called as its part is."""

PICTURES, SOUND = "pictures", "sound"
"""What a film may have; a story that is heard has no pictures."""


class FilmFiles(Group):
    """A film, and the files that belong to it."""

    name: str
    """The stimulus."""
    n_trs: int
    """Whole TRs that it covers: rows of each of its shards."""
    tr_seconds: float
    """Duration of a TR (s)."""
    start_seconds: float = 0.0
    """Time of the film at which its first TR begins (s)."""
    seconds: float
    """Length of the film (s)."""
    files: dict[str, str]
    """Path of each file by its role. A path may be ``file::part``."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Checksum of each file, by role."""
    has: tuple[str, ...] = (PICTURES, SOUND)
    """What can be seen and heard of it."""

    @property
    def path(self) -> str:
        """The film itself."""
        return self.files[FILM]

    @property
    def covered_seconds(self) -> Fraction:
        """Length of its TRs, as they are cut (s)."""
        return self.n_trs * exact_seconds(self.tr_seconds)

    @property
    def exact_stop(self) -> Fraction:
        """Time of the film at which its last TR ends (s)."""
        return exact_seconds(self.start_seconds) + self.covered_seconds

    @property
    def stop_seconds(self) -> float:
        """The same, rounded."""
        return float(self.exact_stop)


@dataclass(frozen=True)
class Made:
    """One film's rows.

    Attributes
    ----------
    values : ndarray, shape (n_trs, ...)
        One array per TR, of the type that :meth:`Part.value` said.
    made_with : dict or None
        What decides whether a trained model may be used with these rows (JSON); by default, the
        part's settings.
    facts : dict
        Counts and measurements, for the record (JSON).
    notes : sequence of str
        What was repaired or chosen of the film's files, a line each that names the file: for the
        user to be told, and for the record.
    """

    values: np.ndarray
    made_with: dict[str, Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Prepared:
    """What all workers that hold a network load, made once before any of them starts.

    Attributes
    ----------
    content : bytes
        For :meth:`Part.load`.
    made_with : dict
        What every shard that is made with it will say, if that is known; see :class:`Made`.
    facts : dict
        For the record.
    """

    content: bytes = b""
    made_with: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Part(ABC):
    """One part of a data set. A part of your own is a subclass in a file of your own.

    Attributes
    ----------
    kind : str
        Name of a part that is built in; of your own, its import path.
    modality : str
        What ``data.modalities`` calls it; "": by the part's name.
    form : str
        Where several parts have one modality, what ``data.audio`` calls this one.
    encoder : str
        Kind of encoder that reads it; see :mod:`giblet_ray.parts.reading`.
    group : str
        Setting of jobs/precompute.py that holds the settings of a part that is built in.
    made_from : tuple of str
        Roles of the files that it needs; a film that lacks one has no such part.
    senses : tuple of str
        What it needs of the film, pictures or sound; likewise.
    zero_is_silence : bool
        Whether a row of zeros is a TR in which nothing is said; a film's are counted, as
        ``silent_trs`` among the facts.
    from_any_second : bool
        Whether its first row can be of any time of the film: of ``film.start_seconds``, which is
        not 0 where films begin between two volumes.
    libraries : tuple of str
        Installed packages that its values depend on.
    blobs : tuple of str
        Names of files that stand beside its rows; see :meth:`blob`.
    Config : type of Group
        Its settings.

    Parameters
    ----------
    name : str
        Name of the part in the data set.
    settings : Group
        Of the class ``Config``.
    """

    kind: ClassVar[str]
    modality: ClassVar[str] = ""
    form: ClassVar[str] = ""
    encoder: ClassVar[str] = "vector"
    group: ClassVar[str] = ""
    zero_is_silence: ClassVar[bool] = False
    from_any_second: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    blobs: ClassVar[tuple[str, ...]] = ()
    Config: ClassVar[type[Group]] = Group
    made_from: tuple[str, ...] = (FILM,)
    senses: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        """Give a part that is not built in its import path as its kind; see that it can be read."""
        if "kind" not in cls.__dict__:
            cls.kind = f"{cls.__module__}:{cls.__qualname__}"
        find_reading(cls.encoder, f"{cls.__qualname__}.encoder")

    def __init__(self, name: str, settings: Group | None = None) -> None:
        self.name = name
        self.prepared = Prepared()
        self.settings: Any = self.Config() if settings is None else settings

    @property
    def reading(self) -> Reading:
        """How a model reads it."""
        return find_reading(self.encoder, self.name)

    # --- before anything is started -----------------------------------------------------------

    @property
    def is_wanted(self) -> bool:
        """Whether its settings ask for it."""
        return True

    @property
    def has_network(self) -> bool:
        """Whether it is made by workers that hold a network, on GPUs where there are any."""
        return False

    def lacks(self, film: FilmFiles) -> list[str]:
        """Return what the part is made from and a film does not have; it then has no such part."""
        missing = [role for role in self.made_from if role not in film.files]
        return missing + [sense for sense in self.senses if sense not in film.has]

    @property
    def network(self) -> str:
        """Name of what it is made with; parts that share one are made together, in one pass."""
        return self.name

    @abstractmethod
    def value(self, film: FilmFiles) -> ValueType:
        """Return the type of the rows that a film's shard will hold.

        Raises
        ------
        InputError
            For settings that cannot be used.
        """

    def check(self, film: FilmFiles) -> None:  # noqa: B027 - nothing that can be told
        """Make sure that a film's files can be used, as far as can be told without decoding it.

        Raises
        ------
        InputError
            If they cannot.
        """

    def recipe(self, films: Sequence[FilmFiles]) -> dict[str, Any]:
        """Return what decides the values, besides files and libraries (JSON): the settings."""
        return self.settings.model_dump(mode="json")

    def network_recipe(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """Return what of a recipe decides what :meth:`prepare` makes."""
        return recipe

    def versions(self) -> dict[str, str]:
        """Return versions of what makes the part; of code of your own, its file's checksum."""
        versions = {name: version(name) for name in (*self.libraries, "giblet_ray")}
        source = inspect.getsourcefile(type(self)) if is_import_path(self.kind) else None
        if source is not None:
            versions[self.kind] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        return versions

    # --- on a worker --------------------------------------------------------------------------

    def prepare(self, films: Sequence[FilmFiles]) -> Prepared:
        """Make what all workers that hold the network load (by default, nothing)."""
        return Prepared()

    def load(self, prepared: Prepared, device: str) -> None:
        """Load what the part is made with, once per worker, before :meth:`make`."""
        self.prepared = prepared

    def blob(self, name: str, prepared: Prepared) -> bytes:
        """Return the content of one of :attr:`blobs`: what a model may need once of the part."""
        raise InputError(f"{self.name}: has no {name} to be kept beside its rows")

    @abstractmethod
    def make(self, film: FilmFiles) -> Made:
        """Make a film's rows.

        Raises
        ------
        InputError
            For a file that cannot be used.
        """

    def make_together(self, film: FilmFiles, parts: Sequence[Part]) -> Mapping[str, Made]:
        """Make a film's rows of several parts of one :attr:`network`, by part.

        Parameters
        ----------
        film : FilmFiles
        parts : sequence of Part
            This one, which is loaded, and others.
        """
        return {self.name: self.make(film)}


class PartInPieces(Part):
    """A part of which several workers make one film's rows at a time.

    Those workers hold its network: without one (``has_network``), a film is made whole by a task.

    Attributes
    ----------
    pieces_serve_all_phases : bool
        Whether the pieces of a film do not depend on when its first TR begins: those of the phase
        that ends last are then made once, and all phases joined of them.
    """

    pieces_serve_all_phases: ClassVar[bool] = False

    def make(self, film: FilmFiles) -> Made:
        """Make all pieces of a film here, and join them."""
        made = [(piece, self.make_piece(film, piece)) for piece in self.pieces(film)]
        return self.join(film, made, self.prepared)

    @abstractmethod
    def pieces(self, film: FilmFiles) -> list[dict[str, Any]]:
        """Return what is to be made, piece by piece, each as JSON content."""

    @abstractmethod
    def make_piece(self, film: FilmFiles, piece: dict[str, Any]) -> np.ndarray:
        """Make one piece, on a worker that has loaded the part."""

    @abstractmethod
    def join(
        self,
        film: FilmFiles,
        made: Sequence[tuple[dict[str, Any], np.ndarray]],
        prepared: Prepared,
    ) -> Made:
        """Join a film's pieces, in any order; nothing need be loaded where this is called."""
