"""Predictions of all subjects in one file, in the form of somebody else: ``--format``.

::

    samples      {subject: {stimulus: n}}      whose response to what, and how many BOLD TRs of it
    model        a task for each subject, whose own head predicts
    OUT.zip      what it predicts of them, in the form's way
    OUT.json     what was predicted with what

Shapes: T BOLD TRs, V units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np

from giblet_ray.checkpoint.claim import claimed
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
from giblet_ray.prediction.task import Task, plan_tasks
from giblet_ray.progress import Progress, Show
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


@dataclass(frozen=True)
class Plan:
    """What is predicted for whom, and written where."""

    form: FileFormat
    """The form of the file."""
    wanted: Wanted
    """BOLD TRs of each stimulus, by subject."""
    tasks: dict[str, Task]
    """By subject."""
    storage: Storage
    stem: str
    """The folder of the file, and its name there without its ending."""

    @property
    def file(self) -> str:
        """The file's name in its folder."""
        return f"{self.stem}{self.form.ending}"


def plan_format(job: PredictJob) -> Plan:
    """Find the form, the model and the films, and make sure that they fit; starts nothing.

    Raises
    ------
    InputError
        If something is not there, does not fit, or is not to be replaced.
    """
    dataset = Dataset.open(job.dataset)
    form, wanted = _asked_for(job, dataset)
    storage, stem = _place(job, form)
    tasks = plan_tasks(job, dataset, {subject: tuple(films) for subject, films in wanted.items()})
    for subject, task in tasks.items():
        form.check_units(subject, task.space.n_units)
    return Plan(form, wanted, tasks, storage, stem)


def predict_format(job: PredictJob, show: Show) -> dict[str, str]:
    """Predict what a form asks for, and write it as one file.

    Parameters
    ----------
    job : PredictJob
        Model, data set, form, its files of samples, and where to.
    show : Show

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
        plan = plan_format(job)
        of_films = dict.fromkeys(note for task in plan.tasks.values() for note in task.notes)
        for note in (*plan.form.notes(plan.wanted), *of_films):
            show(f"note: {note}")
        with claimed(plan.storage.describe(f"{plan.stem}.unfinished"), "--out"):
            _place(job, plan.form)  # Another job, which has ended meanwhile, may have written it.
            progress.doing = "starting"
            connect()
            made = _make(job, plan, show, progress)
    n_trs = sum(n for of in plan.wanted.values() for n in of.values())
    n_stimuli = len({name for of in plan.wanted.values() for name in of})
    version = f" ({made.model.version})" if made.model.version else ""
    return {
        "model": f"{job.model}{version}",
        "data set": made.dataset.location,
        "subjects": ", ".join(plan.wanted),
        "TRs": f"{n_trs:,} of {n_stimuli} stimuli",
        "predictions": f"{plan.storage.describe(plan.file)}, {made.file.bytes / 1e6:,.2f} MB",
    }


def _make(job: PredictJob, plan: Plan, show: Show, progress: Progress) -> FormattedPredictions:
    """Predict for one subject after the other, and write the file and its record."""
    predicted: dict[str, dict[str, np.ndarray]] = {}
    subjects: dict[str, OfSubject] = {}
    for subject, task in plan.tasks.items():
        progress.doing = f"predicting subject {subject}"
        predicted[subject], subjects[subject] = outlive_losses(
            partial(_of_subject, job, task, plan.wanted[subject]),
            lambda: show("a worker was lost; predicting anew"),
        )
        for line in in_words(subject, subjects[subject]):
            show(line)
    progress.doing = "writing"
    storage, file = plan.storage, plan.file
    with storage.write(file) as stream:
        plan.form.write(stream, plan.stem, predicted, plan.wanted)
    first = next(iter(plan.tasks.values())).predictions
    made = FormattedPredictions(
        format=str(job.format),
        model=first.model,
        dataset=first.dataset,
        tr_seconds=first.tr_seconds,
        lag_trs=first.lag_trs,
        file=WrittenFile(path=file, bytes=storage.size(file) or 0, sha256=storage.sha256(file)),
        subjects=subjects,
    )
    with storage.write(f"{plan.stem}.json") as stream:
        stream.write(made.model_dump_json(indent=1).encode())
    return made


def _asked_for(job: PredictJob, dataset: Dataset) -> tuple[FileFormat, Wanted]:
    """Return the form, and what its samples ask for, all of which the data set has."""
    form = find_format(str(job.format), job.packages)
    wanted = form.wanted(matching_files(job.samples, "--samples"))
    names = list(dataset.stimuli)
    for subject, films in wanted.items():
        for name in films:
            if name not in names:
                raise InputError(
                    f"--samples: of subject {subject}, {name} is asked for, which is not in "
                    f"{job.dataset}{nearest(name, names)}; it has {', '.join(names)}"
                )
    return form, wanted


def _place(job: PredictJob, form: FileFormat) -> tuple[Storage, str]:
    """Return the folder that the file is written in, and its name there without its ending."""
    folder, _, file = job.out.rpartition("/")
    stem = file.removesuffix(form.ending)
    if stem in ("", file):
        raise InputError(
            f"--out {job.out}: --format {job.format} is one file, whose name ends in {form.ending}"
        )
    storage = Storage.at(folder or ("/" if job.out.startswith("/") else "."))
    for name in (file, f"{stem}.json"):
        if storage.size(name) is not None and not job.overwrite:
            raise InputError(
                f"--out {job.out}: {name} is there; give another --out, or --overwrite"
            )
    return storage, stem


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
