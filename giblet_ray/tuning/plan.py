"""What a sweep reads and how many of its trials fit, decided before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from giblet_ray.cluster import cluster_totals, places_for
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import SameFilm
from giblet_ray.dataset.view import DataView
from giblet_ray.environment import cluster_address
from giblet_ray.errors import InputError
from giblet_ray.settings import Mark, marked_settings
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import check_batch, kept_same, new_order, sized
from giblet_ray.tuning.journal import Journal
from giblet_ray.tuning.live import check_live, with_space
from giblet_ray.tuning.resume import open_sweep
from giblet_ray.tuning.space import Settings, Space, grid, parse_space, with_settings

_GRACE_EPOCHS = 2


def planned_sweep(job: TuneJob) -> tuple[TuneJob, Journal, Space, DataView]:
    """Return the job of a sweep, begun or resumed, as its space and data size it; its journal, what
    it searches, and what all its trials read. Nothing is started or written.

    Raises
    ------
    InputError
        As :func:`plan_sweep`; for a space that is none, or a sweep to resume that is not there.
    """
    job, journal = open_sweep(job)
    dataset = Dataset.open(job.dataset)
    job = with_space(job, dataset)
    space = parse_space(job.sweep.space or {}, job)
    data = plan_sweep(job, space, dataset, kept_same(job, journal.same()))
    return sized(job, data), journal, space, data


def plan_sweep(
    job: TuneJob, space: Space, dataset: Dataset, same: Sequence[SameFilm] | None = None
) -> DataView:
    """Return what all trials read, together; starts nothing.

    `same` is as :func:`giblet_ray.training.data.plan_data` takes it.

    Raises
    ------
    InputError
        If the data set lacks what some value of the space asks for, the split leaves too little,
        the model has no such setting, or the number of workers is not fixed.
    """
    if job.scaling.is_elastic:
        found = ",".join(map(str, job.scaling.num_workers))
        raise InputError(
            f"--scaling.num_workers {found}: the trials of a sweep have a fixed number of workers; "
            "give one number"
        )
    check_live(job, space, dataset)
    plans = []
    for settings in _variants(space):
        trial = with_settings(job, settings)
        try:
            plan = plan_data(trial, dataset, same)
            check_batch(trial, plan)
        except InputError as error:
            shown = ", ".join(f"{name}={value}" for name, value in settings.items())
            raise InputError(f"{error} (for {shown})" if settings else str(error)) from error
        plans.append(plan)
    parts = dict.fromkeys(part for plan in plans for part in plan.selection.parts)
    leading: dict[str, int] = {}
    for plan in plans:
        for part, first in plan.selection.leading.items():
            leading[part] = max(first, leading.get(part, 0))
    widest = replace(plans[0].selection, parts=tuple(parts), leading=leading)
    return replace(plans[0], selection=widest)


def with_grace(job: TuneJob, data: DataView) -> TuneJob:
    """Return a job that says how many steps every trial is given: by default, two epochs' of its
    own batch size, whatever a trial's is."""
    if job.sweep.grace_steps is not None:
        return job
    steps = max(1, _GRACE_EPOCHS * new_order(job, data).steps)
    return job.model_copy(update={"sweep": job.sweep.model_copy(update={"grace_steps": steps})})


def _variants(space: Space) -> Iterator[Settings]:
    """Yield settings that together show all that trials may read, and each value once."""
    read = marked_settings(TrainJob, Mark.READ)
    shaping = {name: domain for name, domain in space.items() if name in read}
    yield from grid(shaping, 2)
    for name, domain in space.items():
        if name not in shaping:
            for value in domain.points(2):
                yield {name: value}


def trial_resources(job: TuneJob, use_gpu: bool) -> list[dict[str, float]]:
    """Return what Ray Tune reserves for a trial's process.

    With several workers that process only waits for them: it reserves nothing that they need, and
    Ray Train reserves for the workers, of which the number of trials at a time leaves room for all.
    """
    if job.scaling.max_workers > 1:
        return [{"memory": 1}]  # a byte: Ray Tune does not accept nothing
    gpu = {"GPU": job.sweep.gpus_per_trial} if use_gpu else {}
    return [{"CPU": job.scaling.cpus_per_worker, **gpu}]


def fitting_trials(job: TuneJob, use_gpu: bool) -> int:
    """Return how many trials run at the same time on the cluster that is connected to.

    Raises
    ------
    InputError
        If not even one fits, or fewer than asked for; a cluster that may grow is believed.
    """
    workers, cpus = job.scaling.max_workers, job.scaling.cpus_per_worker
    gpus = (job.sweep.gpus_per_trial if workers == 1 else 1) if use_gpu else 0
    fitting = places_for(cpus, gpus) // workers
    asked = job.sweep.max_concurrent
    if cluster_address():
        return asked or max(1, fitting)
    if fitting < (asked or 1):
        totals = cluster_totals()
        needs = f"{workers} worker{'s' if workers > 1 else ''} of {cpus:g} CPUs"
        needs += f" and {gpus:g} GPUs" if gpus else ""
        raise InputError(
            f"--sweep.max_concurrent {asked or 1}: a trial needs {needs}; this machine has "
            f"{totals.get('CPU', 0):g} CPUs and {totals.get('GPU', 0):g} GPUs, room for {fitting} "
            "trials at a time: use fewer, or a smaller --scaling.cpus_per_worker"
        )
    return asked or fitting
