"""``tune.py --preflight``: the largest and the smallest training of a space, and what all take."""

from __future__ import annotations

from collections.abc import Callable

from giblet_ray.cluster import connect
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.console import duration
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.residence import place_data
from giblet_ray.errors import InputError
from giblet_ray.evaluation.score import Score
from giblet_ray.preflight.brief import check_training, need_of_host, shared_bytes
from giblet_ray.preflight.need import gigabytes, host_need
from giblet_ray.preflight.placement import check_host, look_at_cluster
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.size import step_size
from giblet_ray.preflight.training import epoch_seconds, examine
from giblet_ray.progress import Progress
from giblet_ray.training.data import plan_data
from giblet_ray.training.trainer import choose_gpu
from giblet_ray.tuning.plan import fitting_trials, plan_sweep, with_space
from giblet_ray.tuning.resume import open_sweep
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import Settings, Space, parse_space, show_value, with_settings


def preflight_sweep(job: TuneJob, show: Callable[[str], None]) -> None:
    """Say whether a sweep fits, and what it will take; write nothing, book no GPU.

    Parameters
    ----------
    job : TuneJob
        Validated settings.
    show : callable
        Takes each line that the user should see.

    Raises
    ------
    InputError
        If the sweep cannot be started, or its largest trial does not fit.
    """
    job, _ = open_sweep(job)
    dataset = Dataset.open(job.dataset)
    job = with_space(job, dataset)
    space = parse_space(job.sweep.space or {}, job)
    widest = plan_sweep(job, space, dataset)
    report = Report(show)
    with Progress(show) as progress:
        progress.doing = "looking at the cluster"
        connect()
        use_gpu = choose_gpu(job)
        at_a_time = fitting_trials(job, use_gpu)
        cluster = look_at_cluster(look_at_gpus=use_gpu)
        largest, smallest = (_extreme(job, space, dataset, which) for which in (max, min))
        ranks = job.scaling.max_workers
        trial, small = with_settings(job, largest), with_settings(job, smallest)
        data = place_data(plan_data(trial, dataset), job.data.residence, use_gpu)
        show(f"the largest trial: {_shown(largest)}")
        rehearsal = examine(trial, data, use_gpu, cluster, report, progress)
    small_data = place_data(plan_data(small, dataset), job.data.residence, use_gpu)
    small_size = step_size(small, small_data.values, len(small_data.scans), ranks)
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
    step = step_size(trial, data.values, len(data.scans), ranks)
    needed = need_of_host(trial, data, step, use_gpu).total
    if rehearsal is not None and not use_gpu:
        needed = rehearsal.peak_bytes
    gpus = (job.sweep.gpus_per_trial if ranks == 1 else 1) if use_gpu else 0.0
    cpus, workers = job.scaling.cpus_per_worker, at_a_time * ranks
    trials = Search(space, job.sweep, Score(job.train.score)).n_trials
    each = max(space["train.epochs"].points(2)) if "train.epochs" in space else job.train.epochs
    epochs = min(trials * each, job.sweep.max_epochs or trials * each)
    rows = {
        "trials": f"{trials:,} of {each} epochs; {at_a_time} at a time",
        "memory": report.check(
            lambda: (
                check_host(cluster, workers, cpus, gpus, needed, shared_bytes(data))
                + f" (all {at_a_time} the largest; data of {gigabytes(widest.n_bytes)} are shared)"
            ),
            "or a smaller --sweep.max_concurrent",
        ),
        "epochs": f"{epochs:,} in all at most; scheduler {job.sweep.scheduler} stops some earlier",
    }
    if rehearsal is not None:
        seconds = epochs * epoch_seconds(trial, data, rehearsal) / at_a_time
        limit = job.sweep.max_minutes
        said = f"{duration(seconds)} if every trial were the largest, on CPUs"
        rows["time"] = said + (f"; stopped after {limit:g} minutes" if limit else "")
    report.add("sweep", rows)
    report.conclude("nothing was written, and no trial was started")


def check_sweep(
    job: TuneJob, space: Space, dataset: Dataset, use_gpu: bool, show: Callable[[str], None]
) -> None:
    """Say in a few lines what the largest trial needs, and whether it will fail for it.

    Parameters
    ----------
    job : TuneJob
        Validated settings.
    space : Space
        What it searches.
    dataset : Dataset
        The job's data set.
    use_gpu : bool
        Trials have GPUs.
    show : callable
        Takes each line.

    Raises
    ------
    InputError
        If not even the smallest trial fits the machines, or the GPUs.
    """

    def check(settings: Settings, show: Callable[[str], None]) -> None:
        trial = with_settings(job, settings)
        data = place_data(plan_data(trial, dataset), job.data.residence, use_gpu)
        check_training(trial, data, use_gpu, show)

    check(_extreme(job, space, dataset, min), lambda line: None)
    largest = _extreme(job, space, dataset, max)
    show(f"the largest trial: {_shown(largest)}")
    try:
        check(largest, show)
    except InputError as error:
        show(f"note: trials as large as that will fail: {error}")


def _extreme(
    job: TuneJob, space: Space, dataset: Dataset, which: Callable[[list[int]], int]
) -> Settings:
    """Return the value of each setting with which a trial needs most (or least) memory."""

    def need(settings: Settings) -> int:
        trial: TrainJob = with_settings(job, settings)
        values = plan_data(trial, dataset).values
        size = step_size(trial, values, 1, job.scaling.max_workers)
        return host_need(size, job.scaling.max_workers, use_gpu=False).total

    chosen: Settings = {}
    for name, domain in space.items():
        points = domain.points(2)
        needs = [need({name: value}) for value in points]
        chosen[name] = points[needs.index(which(needs))]
    return chosen


def _shown(settings: Settings) -> str:
    return " ".join(f"{name}={show_value(value)}" for name, value in settings.items())
