"""The checkpoints below a run's folder: kept, found, the newest, the best, fetched."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from giblet_ray.checkpoint.damage import damage
from giblet_ray.checkpoint.record import RECORD, Record, record_at
from giblet_ray.console import warn_once
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.storage import PART_SUFFIX, Storage
from giblet_ray.errors import InputError
from giblet_ray.progress import Show

SWEEP = "sweep.json"
"""What a folder holds that is a sweep's."""
_KEPT = 2
"""Latest checkpoints that are kept, beside the best: if one is damaged, there is one before it."""
_NAME = re.compile(r"epoch-(?P<epoch>[0-9]{4,})-step-(?P<step>[0-9]{7,})")


def keep_checkpoint(storage: Storage, run: str, folder: Path, name: str) -> None:
    """Store a checkpoint below a run's folder; keep it, the one before it and the best."""
    store_files(storage, run, folder, name)
    # Of a worker that was killed when it wrote a checkpoint of this name.
    for file in storage.names(f"{run}/{name}"):
        if file.endswith(PART_SUFFIX):
            storage.delete(file)
    drop_checkpoints(storage, run, keep=_KEPT)


def store_files(storage: Storage, run: str, folder: Path, name: str) -> None:
    """Store the files that one worker has of a checkpoint, its record last."""
    storage.store(folder, f"{run}/{name}", last=RECORD)


def drop_checkpoints(storage: Storage, run: str, keep: int = 0) -> None:
    """Delete a run's checkpoints but for the best and the latest `keep`, and what is incomplete.

    Only one process may write checkpoints of a run at a time.
    """
    found = {posixpath.dirname(name) for name in storage.names(run)}
    folders = {name for name in found if _NAME.fullmatch(posixpath.basename(name))}
    records = sound_records(storage, run)
    kept = {*_newest_first(records)[:keep], best_of(records)}
    for name in folders - kept:
        storage.delete(f"{name}/{RECORD}")  # first: a folder without it is no checkpoint
        storage.delete_folder(name)


def _newest_first(names: Iterable[str]) -> list[str]:
    """Return the paths of checkpoints by their step."""

    def step(name: str) -> int:
        found = _NAME.fullmatch(posixpath.basename(name))
        return int(found["step"]) if found else -1

    return sorted(names, key=step, reverse=True)


@contextmanager
def open_latest(
    storage: Storage,
    run: str,
    show: Show,
    open_folder: Callable[[str], AbstractContextManager[str | Path]] | None = None,
) -> Iterator[Path | None]:
    """Find a run's latest checkpoint that is whole, and keep it open.

    Parameters
    ----------
    storage, run : Storage, str
        Where the run is.
    show : callable
        Is told of every checkpoint that is passed over.
    open_folder : callable, optional
        Gives a local folder with the files of a checkpoint's path (default: this process's own).

    Yields
    ------
    Path or None
        A local folder with its files; None if the run has none yet.

    Raises
    ------
    InputError
        If none of several is whole.
    """

    def fetched(name: str) -> AbstractContextManager[Path]:
        return storage.fetch(name, map(posixpath.basename, storage.names(name)))

    names = _newest_first(checkpoint_names(storage, run))
    for name in names:
        with (open_folder or fetched)(name) as opened:
            folder = Path(opened)
            problem = damage(folder)
            if problem is None:
                yield folder
                return
        show(f"{problem}; going back to the checkpoint before it")
    if names:
        raise InputError(
            f"{storage.describe(run)}: none of its {len(names)} checkpoints is whole: delete the "
            "folder to train anew, or give another --name"
        )
    yield None


def latest_record(storage: Storage, run: str) -> Record | None:
    """Return the record of a run's latest checkpoint, or None if it has none."""
    records = sound_records(storage, run)
    names = _newest_first(records)
    return records[names[0]] if names else None


def epoch_history(storage: Storage, run: str) -> list[dict[str, float]]:
    """Return the metrics of every epoch of a run, as its latest checkpoint has them."""
    record = latest_record(storage, run)
    return [] if record is None else record.position.history


def checkpoint_names(storage: Storage, run: str) -> list[str]:
    """Return the path of every complete checkpoint of a run; a sweep's folder holds runs, and none.

    Of a checkpoint's own folder, that is the folder.
    """
    records = [name for name in storage.names(run) if posixpath.basename(name) == RECORD]
    folders = [posixpath.dirname(name) for name in records]
    return [name for name in folders if name == run or posixpath.dirname(name) == run]


def is_run(storage: Storage, name: str) -> bool:
    """Whether a folder is that of a run, which has checkpoints by the names of their epochs."""
    found = checkpoint_names(storage, name)
    return any(_NAME.fullmatch(posixpath.basename(each)) for each in found)


def is_sweep(storage: Storage, name: str) -> bool:
    """Whether a folder is that of a sweep, whose runs lie below it."""
    return storage.size(posixpath.join(name, SWEEP)) is not None


def sound_records(
    storage: Storage, run: str, tell: Callable[[str], None] = lambda problem: None
) -> dict[str, Record]:
    """Return the record of every checkpoint below a run's folder, by the checkpoint's path.

    Left out are those whose record is damaged; `tell` is told what is wrong with each.

    Raises
    ------
    StorageError
        If one cannot be read now: it may be that of the best.
    """
    records = {}
    for name in checkpoint_names(storage, run):
        try:
            records[name] = record_at(storage, posixpath.join(name, RECORD))
        except StorageError:
            raise
        except InputError as error:
            tell(str(error))
    return records


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, wherever it is kept."""

    storage: Storage
    name: str
    """Where it is."""
    record: Record
    """What it is."""

    @property
    def location(self) -> str:
        """Folder or URI."""
        return self.storage.describe(self.name).rstrip("/")

    @property
    def run_folder(self) -> str:
        """Folder or URI of the run that it is of."""
        return self.location.rpartition("/")[0]

    @property
    def label(self) -> str:
        """Name of its own folder."""
        return self.location.rpartition("/")[2]

    @contextmanager
    def files(self, names: Iterable[str]) -> Iterator[Path]:
        """Give a local folder with some of its files, and its record, while the block runs.

        Raises
        ------
        InputError
            If one of them is missing or damaged.
        """
        names = tuple(names)
        with self.storage.fetch(self.name, (RECORD, *names)) as folder:
            if problem := damage(folder, names, self.location):
                raise InputError(problem)
            yield folder


def best_checkpoint(storage: Storage, run: str) -> Checkpoint | None:
    """Return a run's best checkpoint, or None if the run has none.

    One from within an epoch, which has no score, counts only if there is no other. A warning tells
    of those whose record is damaged.

    Raises
    ------
    InputError
        If it has some, and the record of each is damaged, or one cannot be read now.
    """
    problems: list[str] = []
    records = sound_records(storage, run, problems.append)
    best = best_of(records)
    if best is None and problems:
        raise InputError(problems[0])
    for problem in problems:
        warn_once(f"{problem}; this checkpoint is passed over")
    return None if best is None else Checkpoint(storage, best, records[best])


def is_best(location: str, weights: str) -> bool:
    """Whether a run at a path or URI is there, and its best checkpoint has the weights of a
    checksum."""
    try:
        return find_checkpoint(location).record.weights_checksum == weights
    except InputError:
        return False


def find_checkpoint(location: str) -> Checkpoint:
    """Return the checkpoint at a path or URI, or the best one of a run there.

    Raises
    ------
    InputError
        If there is no complete checkpoint.
    """
    found = best_checkpoint(Storage.at(location), "")
    if found is None:
        raise InputError(
            f"{location}: no checkpoint; a folder with {RECORD}, or a run's folder, is accepted"
        )
    return found


def best_of(records: Mapping[str, Record]) -> str | None:
    """Return the path of the best of a run's checkpoints, or None if there are none.

    Where no score is a number, the latest is.
    """
    names = sorted(records, key=lambda name: records[name].position.step)
    if not names:
        return None
    score = records[names[0]].chosen_by
    return score.best(names, lambda name: records[name].score) or names[-1]
