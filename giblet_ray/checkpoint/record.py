"""The record of a checkpoint: what was trained on what, and how far; read and written here."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

from giblet_ray.config import TrainJob
from giblet_ray.dataset.config import DataConfig
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.order import DataOrder
from giblet_ray.dataset.splits import SameFilm, same_in_words
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError, first_problem
from giblet_ray.evaluation.score import Score
from giblet_ray.kinds import read_settings
from giblet_ray.models.config import ModelSettings
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group, Mark, flat_settings, marked_settings

RECORD = "record.json"
VERSION: Literal[2] = 2
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHORT = 12
_T = TypeVar("_T")


def _plain(name: str) -> str:
    if not _FILE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a checkpoint's file")
    return name


FileName = Annotated[str, AfterValidator(_plain)]


class SpaceRecord(Group):
    """What the units of the data set are, and how they go back to a file."""

    kind: str
    """Kind of space; see :mod:`giblet_ray.spaces`."""
    n_units: int = Field(ge=1)
    """Units of the data set, of which a run may predict some."""
    files: dict[str, FileName]
    """What the space is made of: the checkpoint's file of each of its files."""


class DatasetRecord(Group):
    """The data set that a run was trained on, and the shapes that it read of it."""

    location: str
    """Folder or URI."""
    checksum: str
    """Of the manifest, which has one of every file."""
    tr_seconds: float
    """Duration of one TR (s)."""
    values: dict[str, ValueType]
    """What one row of a batch holds, by part; ``bold`` among them."""
    encoders: dict[str, str]
    """Kind of encoder that reads each part, in the order of the parts."""
    lacking: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Stimuli that have no rows of a part, by the parts that some lack."""
    subjects: dict[str, int]
    """Units that are predicted of each subject, in the order of the subjects' indices."""
    units_are_shared: bool
    """Whether a unit is the same one in all of them: of one space, and chosen alike."""
    made_with: dict[str, Any]
    """What each part was made with."""
    spaces: dict[str, SpaceRecord]
    """What each subject's units are."""


class Units(Group):
    """Which of the data set's units a run predicts, in the order of its outputs."""

    subjects: tuple[str, ...]
    """Whose they are."""
    of: int = Field(ge=1)
    """Units that the data set has."""
    n: int = Field(ge=1)
    """Units that are predicted."""
    packed: str
    """Index of each among the data set's: int32, little-endian, deflated, in base 64."""

    @classmethod
    def chosen(cls, subjects: Sequence[str], of: int, indices_V: np.ndarray) -> Self:
        """Return the units of some indices, shape (units,)."""
        packed = base64.b64encode(zlib.compress(indices_V.astype("<i4").tobytes())).decode()
        return cls(subjects=tuple(subjects), of=of, n=len(indices_V), packed=packed)

    @property
    def indices(self) -> NDArray[np.int32]:
        """Index of each predicted unit among the data set's, shape (units,)."""
        # No more is unpacked than there are to be: the record may be anybody's.
        unpacked = zlib.decompressobj().decompress(base64.b64decode(self.packed), 4 * self.n + 4)
        return np.frombuffer(unpacked, "<i4")

    @property
    def summary(self) -> str:
        """How many there are, and a checksum that tells them from others."""
        checksum = xxhash.xxh3_64_hexdigest(self.indices.tobytes())
        return f"{self.n:,} of {self.of:,} ({checksum[:8]})"

    @model_validator(mode="after")
    def _indices_are_of_units(self) -> Self:
        try:
            found = self.indices
        except zlib.error as error:
            raise ValueError(f"indices cannot be unpacked: {error}") from error
        if len(found) != self.n or found.min() < 0 or found.max() >= self.of:
            raise ValueError(f"{self.n} indices of 0 to {self.of - 1} are accepted")
        return self

    def __eq__(self, other: object) -> bool:
        # Of the indices, not of how some version of zlib has packed them.
        return (
            isinstance(other, Units)
            and (self.subjects, self.of) == (other.subjects, other.of)
            and np.array_equal(self.indices, other.indices)
        )

    __hash__ = None  # type: ignore[assignment]


def _whole_or_float(value: Any, to_float: Any) -> Any:
    return value if type(value) is int else to_float(value)


Number = Annotated[float, WrapValidator(_whole_or_float)]
"""A float; a whole number, such as an epoch's, stays one."""


class Position(BaseModel):
    """How far a training has come; with the seed, all that its random numbers depend on.

    The order of the data is a function of (seed, epoch), dropout one of (seed, step, rank): there
    is no hidden random state to lose.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    epoch: int = 0
    """Epochs that are complete."""
    step_in_epoch: int = 0
    """Steps done in the epoch under way."""
    step: int = 0
    """Optimiser steps done in all."""
    loss_sums: dict[str, Number] = {}
    """Losses of the epoch under way, each times its windows, and the windows (``windows``)."""
    history: list[dict[str, Number]] = []
    """Metrics of every complete epoch."""

    @property
    def name(self) -> str:
        """Folder of the checkpoint that is saved here."""
        return f"epoch-{self.epoch:04d}-step-{self.step:07d}"

    def best_epoch(self, score: Score) -> int:
        """Return the best of the complete epochs (from 1); 0 if none was scored."""
        best = score.best_epoch(self.history)
        return 0 if best is None else int(best["epoch"])


class Initial(Group):
    """The weights that a run began with, all but those of its heads."""

    checkpoint: str
    """Folder or URI that they are from."""
    weights: str
    """Checksum of the files that held them."""


class RunRecord(Group):
    """What a run is: two of the same settings, data, order and units give the same numbers."""

    config: dict[str, Any]
    """Settings, as JSON holds them."""
    dataset: DatasetRecord
    """What it was trained on."""
    order: DataOrder
    """The order in which its windows train."""
    units: tuple[Units, ...] = ()
    """Which units it predicts, where those are not all of the data set's."""
    same: tuple[SameFilm, ...] = ()
    """Intervals of films that show the same, which its split keeps in one set."""
    initial: Initial | None = None
    """What its weights began with, where that was not random."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings by dotted name, as runs are shown and compared by them."""
        return flat_settings(self.config) | self.resolved

    @property
    def resolved(self) -> dict[str, Any]:
        """Settings that name a file, or leave a choice to the data set, by what they came to.

        A file may be moved since, or edited: two runs are alike by what it said.
        """
        return {
            "data.subjects": sorted(self.dataset.subjects),
            "data.voxels": ", ".join(units.summary for units in self.units) or "all",
            "data.split.same": same_in_words(self.same),
        }

    @property
    def parts(self) -> dict[str, str]:
        """The part of the data set that it reads, by what ``data.modalities`` calls it."""
        return dict(zip(self.config["data"]["modalities"], self.dataset.encoders, strict=True))

    def model_settings(self, packages: Iterable[str]) -> ModelSettings:
        """Return the settings of its model; `packages` are those that may be imported.

        Raises
        ------
        InputError
            If the model is code of a package that may not be imported, or has settings that this
            release does not know.
        """
        where = "the checkpoint's model.kind"
        settings: ModelSettings = _known(
            "model", lambda: read_settings(ModelSettings, self.config["model"], packages, where)
        )
        return settings

    @property
    def indices_by_subject(self) -> dict[str, np.ndarray]:
        """Index of each predicted unit among the data set's, by subject; empty if all are."""
        return {subject: units.indices for units in self.units for subject in units.subjects}

    @property
    def lag_trs(self) -> int:
        """TRs by which BOLD follows its stimulus."""
        data = _known("data", lambda: DataConfig.model_validate(self.config["data"]))
        return data.lag_trs(self.dataset.tr_seconds)

    @property
    def chosen_by(self) -> Score:
        """What the run's checkpoints are chosen by."""
        return Score(self.config["train"]["score"])


class Piece(Group):
    """Part of a tensor of the model, or all of it, in a file of weights."""

    file: FileName
    """Which file; the tensor has its own name there."""
    units: tuple[int, int] | None = None
    """The units [start, stop) that it is of, along the tensor's first axis; None: all of it."""


class Record(RunRecord):
    """What a checkpoint's folder holds: a run, how far it has come, and the folder's files."""

    version: Literal[2] = VERSION
    """Of this record's form."""
    scans: tuple[ScanKey, ...]
    """Rows of the normalisation."""
    position: Position
    """How far the run has come."""
    score: float | None
    """What checkpoints are chosen by; None within an epoch."""
    unsent: list[Any]
    """Points of the curves that are recorded nowhere else yet, as who sends them keeps them."""
    weights: dict[str, Annotated[tuple[Piece, ...], Field(min_length=1)]] = Field(min_length=1)
    """Where each tensor of the model lies; the pieces of one in the order of their units."""
    checksums: dict[FileName, str]
    """xxh3_128 of the other files, by name."""

    @property
    def run(self) -> RunRecord:
        """What the run is."""
        return RunRecord(**{name: getattr(self, name) for name in RunRecord.model_fields})

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Files that hold the weights."""
        pieces = (piece for pieces in self.weights.values() for piece in pieces)
        return tuple(dict.fromkeys(piece.file for piece in pieces))

    @property
    def weights_checksum(self) -> str:
        """Checksum of all files that hold the weights."""
        checksums = "".join(self.checksums[name] for name in self.weight_files)
        return xxhash.xxh3_128_hexdigest(checksums.encode())

    @model_validator(mode="after")
    def _weights_are_whole(self) -> Self:
        unknown = set(self.weight_files) - set(self.checksums)
        if unknown:
            raise ValueError(f"weights lie in {', '.join(sorted(unknown))}, without a checksum")
        for name, pieces in self.weights.items():
            edges = [piece.units or (0, 0) for piece in pieces]
            starts, stops = [start for start, _ in edges], [0, *(stop for _, stop in edges)]
            if pieces != (Piece(file=pieces[0].file),) and starts != stops[:-1]:
                raise ValueError(f"pieces of {name} leave units out, or hold some twice: {edges}")
        return self


def _known(group: str, read: Callable[[], _T]) -> _T:
    """Read a group of settings, which another release may have had otherwise."""
    try:
        return read()
    except ValidationError as error:
        raise InputError(
            f"the checkpoint's {RECORD}: {first_problem(error, group)}; made by another release?"
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a checkpoint's folder."""
    (folder / RECORD).write_text(json.dumps(record.model_dump(), indent=1))


def read_record(folder: Path) -> Record:
    """Return the record of a checkpoint's folder.

    Raises
    ------
    InputError
        If it has none, a damaged one, or one of another version.
    """
    return record_at(Storage.at(str(folder)), RECORD)


def record_at(storage: Storage, name: str) -> Record:
    """Return the record in a file; see :func:`read_record`.

    Storage that fails raises its own error, which says nothing of the record.
    """
    where = storage.describe(name)
    try:
        return parse_record(storage.read(name), where)
    except FileNotFoundError as error:
        raise InputError(f"{where}: damaged, or no checkpoint's record: {error}") from error


def parse_record(content: bytes | str, where: str) -> Record:
    """Return the record that a file's content is; `where` names the file in messages."""
    try:
        found = json.loads(content)
    except ValueError as error:
        raise InputError(f"{where}: damaged, or no checkpoint's record: {error}") from error
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise InputError(
            f"{where}: no checkpoint's record of version {VERSION}, which is accepted; it has "
            f"{version}"
        )
    try:
        return Record.model_validate(found)
    except ValidationError as error:
        raise InputError(f"{where}: damaged: {first_problem(error)}") from error


def check_same_run(before: RunRecord, now: RunRecord) -> None:
    """Refuse to go on from a checkpoint of other settings, data or units.

    Its numbers would mean nothing.

    Parameters
    ----------
    before : RunRecord
        The checkpoint's.
    now : RunRecord
        What is asked for.

    Raises
    ------
    InputError
        If they differ in what decides a run's numbers.
    """
    name = now.config["name"]
    found, wanted = _deciding(now), _deciding(before)
    for key in {**wanted, **found}:
        if found.get(key) != wanted.get(key):
            raise InputError(
                f"--{key} is {found.get(key)!r}, but run {name} was started with "
                f"{wanted.get(key)!r}: continue it with that, or give another --name"
            )
    if before.dataset.checksum != now.dataset.checksum:
        raise InputError(
            f"{now.dataset.location}: not the data set that run {name} was started on "
            f"(checksum {now.dataset.checksum[:_SHORT]}, then "
            f"{before.dataset.checksum[:_SHORT]}): give another --name"
        )
    if before.units != now.units:
        raise InputError(
            f"--data.voxels {now.config['data']['voxels']}: other units than run {name} was "
            f"started with ({_count(now)}, then {_count(before)}): continue it with those, or "
            "give another --name"
        )
    if before.same != now.same:
        raise InputError(
            f"--data.split.same {now.config['data']['split']['same']}: other intervals than run "
            f"{name} was started with: continue it with those, or give another --name"
        )
    if before.order != now.order:
        raise InputError(
            f"run {name}: its checkpoint was trained in another order of the data "
            f"({before.order}) than this job's ({now.order}): give another --name"
        )


def _deciding(run: RunRecord) -> dict[str, Any]:
    """Return the settings that a run's numbers depend on; how a sweep chose them is not among."""
    free = marked_settings(TrainJob, Mark.FREE)
    training = {key: run.config[key] for key in TrainJob.model_fields if key in run.config}
    return {key: value for key, value in flat_settings(training).items() if key not in free}


def _count(run: RunRecord) -> str:
    return ", ".join(units.summary for units in run.units) or "all"
