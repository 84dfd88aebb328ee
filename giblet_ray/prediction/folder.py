"""What a folder of predictions holds, and what may be put into one.

::

    OUT/
      predictions.json      what was predicted with what; written last: without it, unfinished
      STIMULUS.parquet      one row per TR: its number, and the bytes of float32 (voxels,)
      STIMULUS.nii.gz       one volume per TR: files like the scans (.npy where those were arrays)

A row's TR is that of the BOLD, counted as in a scan that begins with its film. With a lag of 3::

    stimulus TR     0   1   2   3   4   5  ...  n-1
    BOLD TR         .   .   .   3   4   5  ...  n-1   n  n+1  n+2     first_bold_tr = 3
    answers to      .   .   .   0   1   2  ...  n-4  n-3 n-2  n-1     (stimulus TR)
    row, volume                 0   1   2  ...                n-1     toffset = 3 TRs

Where scans see the film begin between two volumes, its TR 0 begins ``phase_seconds`` into it (with
several such phases, that of the first), and so much later is each row: toffset = 3 TRs + 0.9 s.

The first TRs of a scan answer to what was before the film, and have no row; the last rows reach
beyond the film's end. Values are BOLD z-scored per voxel as in training. A voxel that was masked
in training (constant, or not finite) has no prediction: NaN, in both files, and so has, in the
second, one that the model was not to predict. Outside the mask, volumes are 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from pydantic import Field, ValidationError

from giblet_ray.checkpoint.claim import is_claim
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import WrittenFile
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType
from giblet_ray.settings import Group
from giblet_ray.spaces.kinds import SPACES

RECORD = "predictions.json"
_MARK = "UNFINISHED"
_MARK_TEXT = "Unfinished: jobs/predict.py, started again, makes these files anew.\n"

ROWS_ENDING = ".parquet"
Format = Literal["rows", "space"]


class Model(Group):
    """The model that predicted."""

    asked: str
    """What was asked for: a URI of the registry, or a folder."""
    version: str | None
    """Name and version in the registry, if it is from there."""
    run_id: str | None
    """MLflow run that trained it, if the registry says so."""
    checkpoint: str
    """Folder that it was loaded from."""
    weights: str
    """Checksum of the files that hold its weights."""
    score: float | None
    """What it was chosen by, on validation TRs."""


class Films(Group):
    """The data set whose stimuli the response to was predicted."""

    location: str
    checksum: str
    """That of the manifest."""


class WrittenSpace(Group):
    """What the units are, and thus what the files like scans are."""

    kind: str
    """Kind of space; see :mod:`giblet_ray.spaces`."""
    endings: tuple[str, ...]
    """Of the files."""
    files: dict[str, str]
    """Checksum of everything that the space is made of, by name."""


class Predicted(Group):
    """The predicted response to one stimulus."""

    name: str
    n_trs: int
    """TRs of the stimulus, rows and volumes."""
    first_bold_tr: int
    """TR of the first row: the lag."""
    phase_seconds: float = 0.0
    """Time in the film at which its TR 0 begins (s)."""

    without: tuple[str, ...] = ()
    """Parts that the model reads, and the film lacks."""
    files: dict[Format, tuple[WrittenFile, ...]] = Field(default_factory=dict)

    @property
    def shown(self) -> str:
        """Name, and where in the film TR 0 begins."""
        return self.name + (f" from {self.phase_seconds:g} s" if self.phase_seconds else "")


class Predictions(Group):
    """Everything about a folder of predictions but its numbers: predictions.json."""

    schema_version: int = 3
    model: Model
    without: tuple[str, ...] = ()
    """Parts that the model reads, and was to do without."""
    subject: str | None = None
    """Whose response: a subject's, the group's, or, of a model with one head, anybody's."""
    dataset: Films
    tr_seconds: float
    lag_trs: int
    """BOLD at TR t answers to the stimulus at TR t - lag_trs."""
    units: str = "BOLD, z-scored per voxel as in training"
    value: ValueType
    """What one row holds."""
    masked_voxels: int
    """Voxels without a prediction (NaN): they were masked in training."""
    space: WrittenSpace
    """What the units are."""
    stimuli: tuple[Predicted, ...]

    @property
    def endings(self) -> dict[Format, tuple[str, ...]]:
        """Endings of each stimulus's files."""
        return {"rows": (ROWS_ENDING,), "space": self.space.endings}

    @property
    def paths(self) -> list[str]:
        """Every file there is, or is to be, but this record."""
        endings = [ending for of_kind in self.endings.values() for ending in of_kind]
        return [stimulus.name + ending for stimulus in self.stimuli for ending in endings]

    @property
    def shards(self) -> list[WrittenFile]:
        """Every file that is written."""
        return [
            shard
            for stimulus in self.stimuli
            for of_kind in stimulus.files.values()
            for shard in of_kind
        ]

    def difference(self, other: Predictions) -> str | None:
        """Say what tells these from other predictions, the numbers being the same if nothing."""
        names = [[stimulus.shown for stimulus in each.stimuli] for each in (self, other)]
        for what, one, another in (
            ("model", self.model.weights[:12], other.model.weights[:12]),
            ("subject", self.subject, other.subject),
            ("parts left out", *(", ".join(each.without) or "none" for each in (self, other))),
            ("data set", self.dataset.checksum[:12], other.dataset.checksum[:12]),
            ("stimuli", *(", ".join(each) for each in names)),
            ("space", self.space.model_dump(), other.space.model_dump()),
        ):
            if one != another:
                return f"its {what} is {one}, not {another}"
        return None


def finished_predictions(
    storage: Storage, wanted: Predictions, overwrite: bool
) -> Predictions | None:
    """Return the predictions that a folder holds, if they are the wanted ones and whole.

    Parameters
    ----------
    storage : Storage
        The folder, which need not be there.
    wanted : Predictions
        What is to be in it.
    overwrite : bool
        Whether other predictions may be replaced.

    Raises
    ------
    InputError
        If it holds other predictions, some that cannot be read, or something else, or is a file.
    """
    if storage.is_file():
        raise InputError(f"--out {storage.location}: is a file; a folder is expected")
    found = {name for name in storage.entries() if not is_claim(name)}
    if found and not found & {RECORD, _MARK}:
        raise InputError(
            f"--out {storage.location}: holds no predictions, and something else ({min(found)}); "
            "give a new or empty folder"
        )
    if RECORD not in found:
        return None
    there = _read(storage)
    difference = there.difference(wanted)
    if difference is None:
        whole = all(storage.size(shard.path) == shard.bytes for shard in there.shards)
        return there if whole else None
    if overwrite:
        return None
    raise InputError(
        f"--out {storage.location}: holds other predictions: {difference}; give another --out, "
        "or --overwrite"
    )


@contextmanager
def whole_or_nothing(storage: Storage, paths: Sequence[str]) -> Iterator[None]:
    """Mark a folder as unfinished while files are written; if that fails, leave none of them.

    What was there of predictions before is deleted first: finished ones, or those that a job
    left which was killed. The mark lists the files, so that nothing else is ever deleted. No other
    job may write to the folder meanwhile: whoever does this holds its claim.
    """
    before = _listed(storage)
    with storage.write(_MARK) as stream:
        stream.write("\n".join([_MARK_TEXT, *paths, *before]).encode())
    storage.delete(RECORD)
    for name in storage.names():
        if name in before or (name.endswith(".part") and name.startswith(tuple(before))):
            storage.delete(name)
    try:
        yield
    except BaseException:
        for path in paths:
            storage.delete(path)
        raise
    finally:
        storage.delete(_MARK)


def write_record(storage: Storage, predictions: Predictions) -> None:
    """Turn finished files into predictions: the last thing that a job does."""
    with storage.write(RECORD) as stream:
        stream.write(predictions.model_dump_json(indent=1).encode())


def _listed(storage: Storage) -> list[str]:
    """Return the files of predictions that a folder holds, finished or not."""
    listed = []
    if storage.size(_MARK) is not None:
        listed += storage.read(_MARK).decode().splitlines()[1:]
    if storage.size(RECORD) is not None:
        listed += [shard.path for shard in _read(storage).shards]
    endings = (ROWS_ENDING, *(ending for space in SPACES.values() for ending in space.endings))
    return [name for name in listed if name.endswith(endings)]


def _read(storage: Storage) -> Predictions:
    try:
        return Predictions.model_validate_json(storage.read(RECORD))
    except ValidationError as error:
        # Which files are predictions, and may be replaced, it does not tell.
        raise InputError(
            f"--out {storage.location}: its {RECORD} cannot be read: damaged, or made by another "
            "release; give a new or empty folder"
        ) from error
