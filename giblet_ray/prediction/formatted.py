"""Predictions of all subjects in one file, in the form of somebody else: ``--format``.

::

    samples      {subject: {stimulus: n}}      whose response to what, and how many BOLD TRs of it
    model        a task for each subject, whose own head predicts
    OUT.zip      what it predicts of them, in the form's way
    OUT.json     what was predicted with what

Shapes: T BOLD TRs, V units.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np

from giblet_ray.cluster import connect, outlive_losses
from giblet_ray.config import PredictJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import WrittenFile
from giblet_ray.errors import InputError, nearest
from giblet_ray.features.source import matching_files
from giblet_ray.prediction.file_format import FileFormat, Wanted, find_format
from giblet_ray.prediction.fitted_rows import Fitted, OfSubject, fit_rows, in_words
from giblet_ray.prediction.folder import Films, Model
from giblet_ray.prediction.task import Task, found_model, plan_task
from giblet_ray.progress import Progress
from giblet_ray.settings import Group


class FormattedPredictions(Group):
    """Everything about a file of predictions but its numbers: the .json beside it."""

    schema_version: int = 1
    format: str
    model: Model
    dataset: Films
    tr_seconds: float
    lag_trs: int
    file: WrittenFile
    subjects: dict[str, OfSubject]


def predict_format(job: PredictJob, show: Callable[[str], None]) -> dict[str, str]:
    """Predict what a form asks for, and write it as one file.

    Parameters
    ----------
    job : PredictJob
        Model, data set, form, its files of samples, and where to.
    show : callable
        Takes the lines that a user should see.

    Returns
    -------
    dict of str to str
        Names and values for the user.

    Raises
    ------
    InputError
        For anything that the user gave and that cannot be used.
    """
    with Progress(show) as progress:
        progress.doing = "checking model, data set and samples"
        form, wanted = _asked_for(job)
        storage, file = _place(job, form)
        with found_model(job) as (checkpoint, version, run_id):
            here = job.model_copy(update={"model": checkpoint.location})
            plans = _plans(here, form, wanted)
        for note in form.notes(wanted):
            show(f"note: {note}")
        progress.doing = "starting"
        connect()
        predicted: dict[str, dict[str, np.ndarray]] = {}
        subjects: dict[str, OfSubject] = {}
        for subject, task in plans.items():
            progress.doing = f"predicting subject {subject}"
            predicted[subject], subjects[subject] = outlive_losses(
                partial(_of_subject, job, task, wanted[subject]),
                lambda: show("a worker was lost; predicting anew"),
            )
            for line in in_words(subject, subjects[subject]):
                show(line)
        progress.doing = "writing"
        stem = file.removesuffix(form.ending)
        with storage.write(file) as stream:
            form.write(stream, stem, predicted, wanted)
        first = next(iter(plans.values())).predictions
        size = storage.size(file)
        made = FormattedPredictions(
            format=str(job.format),
            model=first.model.model_copy(
                update={"asked": job.model, "version": version, "run_id": run_id}
            ),
            dataset=first.dataset,
            tr_seconds=first.tr_seconds,
            lag_trs=first.lag_trs,
            file=WrittenFile(path=file, bytes=size or 0, sha256=storage.sha256(file)),
            subjects=subjects,
        )
        with storage.write(f"{stem}.json") as stream:
            stream.write(made.model_dump_json(indent=1).encode())
    n_trs = sum(n for of in wanted.values() for n in of.values())
    return {
        "model": f"{job.model}{f' ({version})' if version else ''}",
        "data set": first.dataset.location,
        "subjects": ", ".join(wanted),
        "TRs": f"{n_trs:,} of {len({name for of in wanted.values() for name in of})} stimuli",
        "predictions": f"{storage.describe(file)}, {(size or 0) / 1e6:,.2f} MB",
    }


def of_first_subject(job: PredictJob) -> PredictJob:
    """Return the job that predicts for the first subject alone, as a folder: one at a time is."""
    _, wanted = _asked_for(job)
    subject, films = next(iter(wanted.items()))
    folder = posixpath.dirname(job.out) or "."
    plain = {"format": None, "samples": (), "out": f"{folder}/{subject}.predictions"}
    return job.model_copy(update={**plain, "subject": subject, "stimuli": tuple(films)})


def _asked_for(job: PredictJob) -> tuple[FileFormat, Wanted]:
    """Return the form, and what its samples ask for, all of which the data set has."""
    form = find_format(str(job.format), job.packages)
    wanted = form.wanted(matching_files(job.samples, "--samples"))
    names = list(Dataset.open(job.dataset).stimuli)
    for subject, films in wanted.items():
        for name in films:
            if name not in names:
                raise InputError(
                    f"--samples: of subject {subject}, {name} is asked for, which is not in "
                    f"{job.dataset}{nearest(name, names)}; it has {', '.join(names)}"
                )
    return form, wanted


def _place(job: PredictJob, form: FileFormat) -> tuple[Storage, str]:
    """Return the folder that the file is written in, and its name there."""
    folder, _, file = job.out.rpartition("/")
    if not file.endswith(form.ending) or file == form.ending:
        raise InputError(
            f"--out {job.out}: --format {job.format} is one file, whose name ends in {form.ending}"
        )
    storage = Storage.at(folder or ("/" if job.out.startswith("/") else "."))
    if storage.size(file) is not None and not job.overwrite:
        raise InputError(f"--out {job.out}: is there; give another --out, or --overwrite")
    return storage, file


def _plans(job: PredictJob, form: FileFormat, wanted: Wanted) -> dict[str, Task]:
    """Return what is predicted from what, by subject."""
    plans: dict[str, Task] = {}
    for subject, films in wanted.items():
        own = {"format": None, "samples": (), "subject": subject, "stimuli": tuple(films)}
        task = plan_task(job.model_copy(update=own))
        form.check_units(subject, task.space.n_units)
        # All tasks are of one model, which is held once.
        encoder = next((other.encoder for other in plans.values()), task.encoder)
        plans[subject] = replace(task, encoder=encoder)
    return plans


def _of_subject(
    job: PredictJob, task: Task, films: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], OfSubject]:
    """Predict the response of a subject to all films."""
    from giblet_ray.prediction.pipeline import predicted_blocks

    rows: dict[str, np.ndarray] = {}
    fitted: dict[str, Fitted] = {}
    predictions, n_units = task.predictions, task.space.n_units
    units_V = np.arange(n_units) if task.units is None else np.asarray(task.units)
    lacks = {stimulus.name: stimulus.without for stimulus in predictions.stimuli}
    is_predicted_V = np.zeros(n_units, bool)
    blocks = predicted_blocks(task, job.batch_trs, job.use_gpu)
    for name, of_film in groupby(blocks, key=lambda block: block[0]):
        found = [(trs_T + predictions.lag_trs, bold_TV) for _, trs_T, bold_TV in of_film]
        bold_TV = np.concatenate([bold_TV for _, bold_TV in found])
        is_predicted_V[units_V[np.isfinite(bold_TV).all(axis=0)]] = True
        all_TV = np.zeros((len(bold_TV), n_units), np.float32)
        all_TV[:, units_V] = np.nan_to_num(bold_TV)
        trs_T = np.concatenate([trs_T for trs_T, _ in found])
        rows[name], counts = fit_rows(trs_T, all_TV, films[name])
        fitted[name] = Fitted(
            stimulus=name,
            film_trs=task.dataset.stimuli[name].n_trs,
            without=(*predictions.without, *lacks[name]),
            **counts,
        )
    named = task.space.unit_names or tuple(str(unit) for unit in range(n_units))
    of_subject = OfSubject(
        stimuli=tuple(fitted[name] for name in films),
        unpredicted=tuple(named[unit] for unit in np.flatnonzero(~is_predicted_V)),
    )
    return {name: rows[name] for name in films}, of_subject
