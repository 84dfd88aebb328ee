"""A run whose best checkpoint and data set are at hand, to predict what it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from giblet_ray.checkpoint.files import NORMALISATION, load_space
from giblet_ray.checkpoint.record import Record
from giblet_ray.checkpoint.store import Checkpoint, find_checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.console import warn_once
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Dataset, Span, spans_by_stimulus
from giblet_ray.dataset.splits import IN_WORDS, SetName
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError, first_problem
from giblet_ray.spaces.space import Space
from giblet_ray.training.config import TrainConfig
from giblet_ray.training.data import plan_data
from giblet_ray.training.finished import is_finished


@dataclass(frozen=True)
class OpenedRun:
    """A run's best checkpoint, and the data set that it was trained on."""

    checkpoint: Checkpoint
    """The best one."""
    data: DataView
    """What it was trained on; its split says which TRs chose its epoch, and which judge it."""
    scans: tuple[ScanKey, ...]
    """Rows of the normalisation."""
    mean_SV: NDArray[np.float32]
    std_SV: NDArray[np.float32]
    """How its BOLD was z-scored."""
    valid_SV: NDArray[np.bool_]
    """Units that took part in the scan's subject."""
    packages: tuple[str, ...]
    """Packages that its model may be imported from."""

    def load(self) -> Encoder:
        """Load the model, onto a GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Encoder.load(self.checkpoint.location, device=device, packages=self.packages)

    def scans_in(self, name: SetName) -> tuple[ScanKey, ...]:
        """Return the scans that have two TRs or more in a set, in the order of the record.

        Without two there is no r: a warning tells of those that saw a film of the set otherwise.
        """
        spans, found = spans_by_stimulus(self.data.split.spans(name)), []
        for scan in self.scans:
            if scan.stimulus in spans and self.data.split.has(name, scan.repeat):
                usable = self.data.dataset.usable_trs(scan)
                n_trs = sum(usable[of.start : of.stop].sum() for of in spans[scan.stimulus])
                if n_trs >= 2:
                    found.append(scan)
                else:
                    run, left = self.checkpoint.record.config["name"], f"{scan} is left out"
                    warn_once(f"run {run}: {left}: of its {IN_WORDS[name]} TRs, {n_trs} have BOLD")
        return tuple(found)

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """What each subject's units are, read once; subjects with the same units share one.

        Raises
        ------
        InputError
            If the checkpoint's files of it are damaged.
        """
        records = self.checkpoint.record.dataset.spaces
        files = {name for record in records.values() for name in record.files.values()}
        where = self.checkpoint.location
        with self.checkpoint.files(sorted(files)) as folder:
            opened = {
                record.model_dump_json(): load_space(folder, record, where)
                for record in records.values()
            }
        return {name: opened[record.model_dump_json()] for name, record in records.items()}

    def subjects_by_space(self) -> list[tuple[Space, list[str]]]:
        """Return each space, and the subjects whose units are of it."""
        spaces = self.spaces
        found: dict[int, list[str]] = {}
        for name, space in spaces.items():
            found.setdefault(id(space), []).append(name)
        return [(spaces[names[0]], names) for names in found.values()]

    def valid(self, subject: str) -> NDArray[np.bool_]:
        """Return which of its units took part in a subject, (units,)."""
        row = [scan.subject for scan in self.scans].index(subject)
        return self.valid_SV[row, : self.checkpoint.record.dataset.subjects[subject]]

    def z_scored(self, span: Span, scan: ScanKey) -> NDArray[np.float64]:
        """Read the BOLD of some TRs of a scan, (TRs, units), as the model was given it.

        Units that took no part in the subject are 0.
        """
        row = self.scans.index(scan)
        bold_NV = read_bold(self.data, span, scan)
        mean_V, std_V = (of[row, : bold_NV.shape[1]] for of in (self.mean_SV, self.std_SV))
        return np.where(self.valid(scan.subject), (bold_NV - mean_V) / std_V, 0.0)


def check_comparable(one: OpenedRun, other: OpenedRun, names: str) -> None:
    """Refuse two runs whose scores are about other data.

    Raises
    ------
    InputError
        If they were trained on different data sets, or predict different units; `names` says who.
    """
    if one.data.dataset.manifest.checksum != other.data.dataset.manifest.checksum:
        raise InputError(f"{names} were trained on different data sets: no TR is common")
    mine, theirs = one.data.selection.units, other.data.selection.units
    if mine.keys() != theirs.keys() or not all(
        np.array_equal(mine[subject], theirs[subject]) for subject in mine
    ):
        raise InputError(f"{names} predict different voxels (data.voxels): none can be paired")


def is_finished_run(record: Record) -> bool:
    """Whether the training that a run's latest record is of has ended."""
    return is_finished(record.position, TrainConfig.model_validate(record.config["train"]))


def read_bold(data: DataView, span: Span, scan: ScanKey) -> NDArray:
    """Read the BOLD of some TRs of a scan, (TRs, units), as stored."""
    column = bold_column(scan.subject, scan.repeat)
    repeats = {scan.subject: scan.repeat}
    selection = replace(data.selection, parts=(), subjects=(scan.subject,), repeats=repeats)
    kind = selection.value_type(data.dataset, column)
    return as_arrays(data.dataset.read(span, selection)[column].combine_chunks(), kind)


def open_run(
    location: str,
    dataset: str | None = None,
    open_dataset: Callable[[str], Dataset] = Dataset.open,
    packages: Iterable[str] = (),
) -> OpenedRun:
    """Find a run's best checkpoint and data set.

    Parameters
    ----------
    location : str
        Folder or URI of a run, or of a checkpoint.
    dataset : str, optional
        Where its data set is, if not where it was when the run was trained.
    open_dataset : callable, optional
        Opens it.
    packages : iterable of str
        Packages that its model may be imported from.

    Raises
    ------
    InputError
        If the checkpoint cannot be read, or the data set is not the one that it was trained on.
    """
    try:
        checkpoint = find_checkpoint(location)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a record that is just being written, perhaps
        raise InputError(f"{location}: cannot be read: {error}") from error
    record = checkpoint.record
    job = _job(record, dataset, checkpoint, packages)
    data = plan_data(job, open_dataset(job.dataset), record.same)
    if record.units:  # as the run chose them: their file is needed no more
        chosen = replace(data.selection, units=record.indices_by_subject)
        data = replace(data, selection=chosen)
    found, trained = data.dataset.manifest.checksum, record.dataset.checksum
    if found != trained:
        raise InputError(
            f"{data.dataset.storage.location}: not the data set that run {record.config['name']} "
            f"was trained on (checksum {found[:12]}, then {trained[:12]})"
        )
    try:
        with checkpoint.files((NORMALISATION,)) as folder:
            scales = load_file(folder / NORMALISATION)
    except SafetensorError as error:
        where = f"{checkpoint.location}/{NORMALISATION}"
        raise InputError(f"{where}: cannot be read: {error}") from error
    return OpenedRun(
        checkpoint,
        data,
        record.scans,
        scales["mean_SV"],
        scales["std_SV"],
        scales["valid_SV"].astype(bool),
        tuple(packages),
    )


def _job(
    record: Record, location: str | None, checkpoint: Checkpoint, packages: Iterable[str]
) -> TrainJob:
    config = {key: value for key, value in record.config.items() if key in TrainJob.model_fields}
    config["dataset"] = location or record.dataset.location
    config["data"] = {**config["data"], "voxels": None}
    config["packages"] = packages  # the user's: a record does not say what may be imported
    try:
        return TrainJob(**config)
    except ValidationError as error:
        raise InputError(f"{checkpoint.location}: its setting {first_problem(error)}") from error
