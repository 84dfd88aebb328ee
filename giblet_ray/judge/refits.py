"""Models fitted anew beside a run: banded ridge, and the run's own on some of its parts.

Each is a run of its own, fitted once and kept by its name.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from typing import Any

import numpy as np

from giblet_ray.checkpoint.store import latest_record
from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.trainable import PER_SUBJECT
from giblet_ray.errors import InputError
from giblet_ray.judge.judge import judge_run
from giblet_ray.judge.opened import OpenedRun, is_finished_run, open_run
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.progress import Show
from giblet_ray.training.trainer import fit


def fit_ridge(opened: OpenedRun, parts: tuple[str, ...], job: EvaluateJob, show: Show) -> OpenedRun:
    """Return banded ridge on some parts, and the units and TRs, of a run.

    Its name follows from the data set, the split, the parts and the units, so that all runs on the
    same data share it.

    Parameters
    ----------
    opened : OpenedRun
        The run.
    parts : tuple of str
        What ridge sees, as ``data.modalities`` calls it.
    job : EvaluateJob
        Where runs are kept and recorded.
    show : Show

    Raises
    ------
    InputError
        If ridge cannot take the parts, or the fit does not fit the machine.
    """
    record = opened.checkpoint.record
    data = {name: record.config["data"][name] for name in ("audio", "subjects", "split")}
    data["modalities"] = parts
    name = f"ridge-{_checksum(opened, {'data': data})[:10]}"
    show(f"ridge, {' + '.join(parts)}: run {name}")
    return _fitted(opened, name, {"data": data, "model": RidgeConfig()}, job, show)


def retrain(opened: OpenedRun, parts: tuple[str, ...], job: EvaluateJob, show: Show) -> OpenedRun:
    """Return a run's model, trained anew on some of its parts with its own settings.

    Its name is the run's, with the parts behind it, and a checksum of its settings: trials of two
    sweeps may have one name.

    Parameters
    ----------
    opened, parts, job, show
        See :func:`fit_ridge`.

    Raises
    ------
    InputError
        If it cannot be trained.
    """
    config = opened.checkpoint.record.config
    if opened.checkpoint.record.initial is not None:
        raise InputError(
            f"--partition retrained: run {config['name']} began with the trunk of another, which "
            "reads all parts; permuted is accepted"
        )
    groups = ("data", "model", "loss", "optimizer", "train")
    settings = {group: config[group] for group in groups}
    settings["data"] = {**config["data"], "modalities": parts, "voxels": None}
    name = "-".join((config["name"], *parts, _checksum(opened, settings)[:6]))
    show(f"trained anew, {' + '.join(parts)}: run {name}")
    return _fitted(opened, name, settings, job, show)


def _checksum(opened: OpenedRun, settings: dict[str, Any]) -> str:
    """Return a checksum of settings, and of the data, units and equal intervals of a run."""
    record, data = opened.checkpoint.record, settings["data"]
    # What their files said when the run began, wherever they lie.
    split = {**data["split"], "same": [asdict(each) for each in record.same]}
    units = [each.model_dump() for each in record.units]
    what = [record.dataset.checksum, {**settings, "data": {**data, "split": split}}, units]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _fitted(
    opened: OpenedRun,
    name: str,
    settings: dict[str, Any],
    job: EvaluateJob,
    show: Show,
) -> OpenedRun:
    """Return the best checkpoint of a run of these settings, trained unless it is finished."""
    storage = Storage.at(job.storage.path)
    units = opened.checkpoint.record.indices_by_subject
    before = latest_record(storage, name)
    if before is None or not is_finished_run(before):
        with tempfile.TemporaryDirectory() as folder:
            if units:  # as the run chose them: their file may be gone
                for subject, indices in units.items():
                    np.save(f"{folder}/{subject}.npy", indices)
                chosen = f"{folder}/{PER_SUBJECT}.npy"
                settings = {**settings, "data": {**settings["data"], "voxels": chosen}}
            given = {
                **settings,
                "dataset": opened.data.dataset.storage.location,
                "name": name,
                "packages": job.packages,
                "storage": job.storage.model_dump(),
                "tracking": {**job.tracking.model_dump(), "log_model": False},
            }
            same = opened.checkpoint.record.same  # their file may be gone, too
            fit(TrainJob.model_validate(given), show, judge=judge_run, same=same)
    return open_run(storage.describe(name), job.dataset, packages=job.packages)
