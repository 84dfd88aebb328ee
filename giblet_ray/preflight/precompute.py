"""``precompute.py --preflight``: what will be made, and whether there is room for it."""

from __future__ import annotations

from giblet_ray.cluster import connect, living_nodes
from giblet_ray.config import PrecomputeJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.precompute import resume
from giblet_ray.precompute.pipeline import cut_work, share_work, task_memory
from giblet_ray.precompute.plan import make_plan
from giblet_ray.precompute.scans_table import scans_table
from giblet_ray.preflight.disk import disk_room
from giblet_ray.preflight.need import Need, gigabytes
from giblet_ray.preflight.report import Report
from giblet_ray.progress import Progress, Show
from giblet_ray.spaces.config import high_pass_in_words


def preflight_precompute(job: PrecomputeJob, show: Show) -> None:
    """Say what a data set will take to make; write nothing.

    Parameters
    ----------
    job, show
        As :func:`giblet_ray.precompute.precompute.precompute` takes them.

    Raises
    ------
    InputError
        For anything that cannot be used, and where room is missing.
    """
    storage = Storage.at(job.out)
    with Progress(show) as progress:
        progress.doing = "checking the files"
        before = resume.existing(storage)
        plan = make_plan(job)
        job = plan.job
        for line in scans_table(plan.scans) if plan.scans else []:
            show(line)
        progress.doing = "verifying what is finished"
        kept = resume.finished(storage, plan.units, before)
        missing = [unit for unit in plan.units if unit.path not in kept]
        progress.doing = "looking at the cluster"
        connect()
    for note in plan.notes:
        show(f"note: {note}")
    report = Report(show)
    parts: dict[str, list[int]] = {}
    for unit in plan.units:
        parts.setdefault(unit.part, []).append(unit.nbytes)
    n_trs = sum(film.n_trs for film in plan.films)
    report.add(
        "data set",
        {
            "stimuli": f"{len(plan.films)}: {n_trs:,} TRs of {job.tr_seconds:g} s",
            **{
                part: f"{len(sizes):,} files, {gigabytes(sum(sizes))}"
                for part, sizes in parts.items()
            },
            **({"high-pass": high_pass_in_words(job.scan.high_pass_seconds)} if plan.scans else {}),
            "to be made": f"{len(missing):,} of {len(plan.units):,} files; the others are kept",
            "disk": report.check(
                lambda needed: disk_room(storage, needed, "--out"),
                Need({"shards": sum(unit.nbytes for unit in missing)}),
            ),
        },
    )
    if missing:
        slots = share_work(cut_work(missing, plan.parts), plan.parts)
        needed = task_memory(missing)
        places = [
            min(int(has.get("CPU", 0) / slots.num_cpus), int(has.get("memory", 0) // needed))
            for has in (node.has for node in living_nodes())
        ]
        report.add(
            "cluster",
            {
                "memory of a task": f"{gigabytes(needed)} at most",
                "at a time": report.check(
                    lambda needed: _places(sum(places), needed), Need({"a task": needed})
                ),
            },
        )
    report.conclude("nothing was written")


def _places(places: int, needed: int) -> str:
    if not places:
        raise InputError(
            f"no machine of the cluster has a CPU and {gigabytes(needed)} of memory free for a "
            "task; use machines with more memory"
        )
    return f"{places:,} tasks"
