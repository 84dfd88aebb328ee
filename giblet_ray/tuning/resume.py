"""Beginning a sweep, or going on with one that was interrupted, under the same settings."""

from __future__ import annotations

import copy
import shlex
from typing import Any

from pydantic import ValidationError

from giblet_ray.checkpoint.record import Units
from giblet_ray.checkpoint.store import latest_record
from giblet_ray.config import TuneJob
from giblet_ray.dataset.storage import Storage, absolute
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError, first_problem
from giblet_ray.settings import Mark, flat_settings, marked_settings, update_settings, words_of
from giblet_ray.training.identity import chosen_units, saved_config
from giblet_ray.tuning.journal import Journal, TrialRecord


def sweep_folder(job: TuneJob) -> str:
    """Return the folder of a sweep's records and trials."""
    return f"{absolute(job.storage.path)}/{job.name}"


def open_sweep(job: TuneJob) -> tuple[TuneJob, Journal]:
    """Return the job, with the settings of the sweep that it resumes, and the sweep's journal."""
    if job.sweep.resume is None:
        return job, Journal(Storage.at(sweep_folder(job)))
    name = job.sweep.resume
    journal = Journal(Storage.at(f"{absolute(job.storage.path)}/{name}"))
    saved = journal.load()["config"]
    given = job.model_dump(mode="json", exclude_unset=True)
    if "name" in given and given["name"] != name:
        raise InputError(f"--name {given['name']}: a sweep is resumed under its name, {name}")
    settings = copy.deepcopy(saved)
    update_settings(settings, given)
    if "space" in given["sweep"]:
        settings["sweep"]["space"] = given["sweep"]["space"]  # whole: its names are not settings
    try:
        resumed = TuneJob(**settings, packages=job.packages)
    except ValidationError as error:
        _refuse_others(name, saved, settings)
        raise InputError(
            f"--sweep.resume {name}: in its settings, with those that are given: "
            f"{first_problem(error)}; made by another release?"
        ) from error
    _refuse_others(name, saved, sweep_config(resumed))
    return resumed, journal


def _refuse_others(name: str, saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse settings that decide a sweep's numbers and are not those it was started with."""
    free = marked_settings(TuneJob, Mark.FREE)
    before, settings = flat_settings(saved), flat_settings(now)
    searched = [key for key in settings if key.startswith("sweep.space.")]
    for key in dict.fromkeys((*before, *searched)):
        if key not in free and settings.get(key) != before.get(key):
            then = f"with {before[key]!r}" if key in before else "without it"
            raise InputError(
                f"--{key} is {settings.get(key)!r}, but sweep {name} was started {then}: leave it "
                "out, or start another sweep"
            )


def resuming(job: TuneJob) -> str:
    """Return what goes on with a sweep, for the user to copy: its name, and where it is kept."""
    return shlex.join(["--sweep.resume", job.name, *words_of(job, "storage.path")])


def comparing(job: TuneJob) -> str:
    """Return what compares a sweep's trials, for the user to copy: experiment and store."""
    experiment = ["--experiment", job.tracking.experiment]
    return shlex.join([*experiment, *words_of(job, "tracking.uri")])


def earlier_trials(job: TuneJob, journal: Journal, data: DataView) -> list[TrialRecord]:
    """Return the trials of the sweep that is resumed; refuse a wrong name, data or units."""
    if job.sweep.resume is None:
        if journal.exists():
            raise InputError(
                f"--name {job.name}: {sweep_folder(job)} is a sweep already; continue it with "
                f"{resuming(job)}, or give another --name"
            )
        if latest_record(Storage.at(job.storage.path), job.name) is not None:
            raise InputError(f"--name {job.name}: is a run already; give another --name")
        return []
    saved, checksum = journal.load(), data.dataset.manifest.checksum
    found = saved["dataset_checksum"]
    if found != checksum:
        raise InputError(
            f"{job.dataset}: not the data set that sweep {job.name} was started on (checksum "
            f"{checksum[:12]}, then {found[:12]}): start another sweep"
        )
    if [Units.model_validate(units) for units in saved["units"]] != list(chosen_units(data)):
        raise InputError(
            f"--data.voxels {job.data.voxels}: other units than sweep {job.name} was started with: "
            "continue it with those, or start another sweep"
        )
    if journal.same() != data.same:
        raise InputError(
            f"--data.split.same {job.data.split.same}: other intervals than sweep {job.name} was "
            "started with: continue it with those, or start another sweep"
        )
    return journal.trials()


def sweep_config(job: TuneJob) -> dict[str, Any]:
    """Return the settings of the sweep as they are saved with it."""
    config = saved_config(job)
    # Each trial's model has its own default.
    config["data"]["lag_seconds"] = job.data.lag_seconds
    config["optimizer"]["head_weight_decay"] = job.optimizer.head_weight_decay
    return {**config, "sweep": job.sweep.model_dump(mode="json", exclude={"resume"})}
