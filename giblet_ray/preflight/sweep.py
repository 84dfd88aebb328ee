"""``tune.py --preflight``: the largest and the smallest training of a space, and what all take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.console import duration
from giblet_ray.dataset.residence import place_data
from giblet_ray.dataset.view import DataView
from giblet_ray.evaluation.score import Score
from giblet_ray.models.predictor import Shapes
from giblet_ray.preflight.brief import need_of_host, shared_bytes, tell_training
from giblet_ray.preflight.need import Need, gigabytes, host_need
from giblet_ray.preflight.placement import check_host, look_at_cluster
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.size import measure_activations, step_size
from giblet_ray.preflight.training import epoch_seconds, examine
from giblet_ray.progress import Progress, Show
from giblet_ray.training.data import model_shapes, plan_data
from giblet_ray.training.trainer import choose_gpu
from giblet_ray.tuning.plan import fitting_trials, planned_sweep
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import Settings, Space, show_value, with_settings


def preflight_sweep(job: TuneJob, show: Show) -> None:
    """Say whether a sweep fits, and what it will take; write nothing, book no GPU.

    Parameters
    ----------
    job, show
        As :func:`giblet_ray.tuning.sweep.sweep` takes them.

    Raises
    ------
    InputError
        If the sweep cannot be started, or its largest trial does not fit.
    """
    job, _, space, widest = planned_sweep(job)
    report = Report(show)
    with Progress(show) as progress:
        progress.doing = "looking at the cluster"
        connect()
        use_gpu = choose_gpu(job)
        at_a_time = fitting_trials(job, use_gpu)
        cluster = look_at_cluster(look_at_gpus=use_gpu)
        progress.doing = "measuring trials"
        smallest, largest = _extremes(job, space, widest, measure_activations)
        ranks = job.scaling.max_workers
        trial, small = with_settings(job, largest), with_settings(job, smallest)
        data = place_data(
            plan_data(trial, widest.dataset, widest.same), job.data.residence, use_gpu
        )
        show(f"the largest trial: {_shown(largest)}")
        rehearsal = examine(trial, data, use_gpu, cluster, report, progress)
    small_data = place_data(
        plan_data(small, widest.dataset, widest.same), job.data.residence, use_gpu
    )
    small_size = step_size(
        small, model_shapes(small_data), len(small_data.scans), ranks, small_data.window
    )
    report.add(
        "smallest trial",
        {
            "settings": _shown(smallest),
            "parameters": f"{small_size.parameters:,}",
            "host, per worker": (
                f"{gigabytes(need_of_host(small, small_data, small_size, use_gpu).total)} (counted)"
            ),
        },
    )
    step = step_size(trial, model_shapes(data), len(data.scans), ranks, data.window)
    need = need_of_host(trial, data, step, use_gpu)
    if rehearsal is not None and not use_gpu:
        need = Need({"a worker": rehearsal.peak_bytes})
    gpus = (job.sweep.gpus_per_trial if ranks == 1 else 1) if use_gpu else 0.0
    cpus, shared = job.scaling.cpus_per_worker, shared_bytes(data)
    trials = job.sweep.with_repeats(Search(space, job.sweep, Score(job.train.score)).n_trials)
    each = max(space["train.epochs"].points(2)) if "train.epochs" in space else job.train.epochs
    epochs = min(trials * each, job.sweep.max_epochs or trials * each)
    rows = {
        "trials": f"{trials:,} of {each} epochs; {at_a_time} at a time",
        "memory": report.check(
            lambda needed: check_host(cluster, ranks, cpus, gpus, needed, shared, at_a_time),
            need,
            "or a smaller --sweep.max_concurrent",
        )
        + f" (all {at_a_time} the largest; data of {gigabytes(widest.n_bytes)} are shared)",
        "epochs": f"{epochs:,} in all at most; scheduler {job.sweep.scheduler} stops some earlier",
    }
    if rehearsal is not None:
        seconds = epochs * epoch_seconds(trial, data, rehearsal) / at_a_time
        limit = job.sweep.max_minutes
        said = f"{duration(seconds)} if every trial were the largest, on CPUs"
        rows["time"] = said + (f"; stopped after {limit:g} minutes" if limit else "")
    report.add("sweep", rows)
    report.conclude("nothing was written, and no trial was started")


def check_sweep(job: TuneJob, space: Space, data: DataView, use_gpu: bool, show: Show) -> None:
    """Say in a few lines what the largest trials need, and whether they will fail for it.

    As many of them are counted as run at a time.

    Parameters
    ----------
    job : TuneJob
        Validated settings.
    space : Space
        What it searches.
    data : DataView
        What all trials read.
    use_gpu : bool
        Trials have GPUs.
    show : Show

    Raises
    ------
    InputError
        If not even the smallest trials fit the machines, or the GPUs; unless forced.
    """

    at_a_time = fitting_trials(job, use_gpu)

    def tell(settings: Settings, show: Show) -> Report:
        trial = with_settings(job, settings)
        planned = plan_data(trial, data.dataset, data.same)
        placed = place_data(planned, job.data.residence, use_gpu)
        return tell_training(trial, placed, use_gpu, show, at_a_time)

    smallest, largest = _extremes(job, space, data)
    report = tell(smallest, lambda line: None)
    report.show = show
    report.refuse(job.preflight.force)
    many = f", {at_a_time} of which run at a time" if at_a_time > 1 else ""
    show(f"the largest trial: {_shown(largest)}{many}")
    for problem in tell(largest, show).problems:
        show(f"note: trials as large as that will fail{many}: {problem}")


def _extremes(
    job: TuneJob,
    space: Space,
    data: DataView,
    activations: Callable[[TrainJob, Shapes, int, int], int] = lambda *trial: 0,
) -> tuple[Settings, Settings]:
    """Return the value of each setting with which a trial needs least memory, and most."""
    ranks = job.scaling.max_workers

    def need(settings: Settings) -> int:
        trial = with_settings(job, settings)
        planned = plan_data(trial, data.dataset, data.same)
        shapes = model_shapes(planned)
        kept = activations(trial, shapes, ranks, planned.window)
        size = replace(step_size(trial, shapes, 1, ranks, planned.window), activations=kept)
        return host_need(size, ranks, use_gpu=False).total

    least: Settings = {}
    most: Settings = {}
    for name, domain in space.items():
        points = domain.points(2)
        needs = [need({name: value}) for value in points]
        least[name], most[name] = (points[needs.index(which(needs))] for which in (min, max))
    return least, most


def _shown(settings: Settings) -> str:
    return " ".join(f"{name}={show_value(value)}" for name, value in settings.items())
