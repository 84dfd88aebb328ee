"""``demo.py --preflight``: what the demo will make, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Callable

from giblet_ray.config import DemoJob, PrecomputeJob, TrainJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.demo import DemoSettings
from giblet_ray.parts.part import FilmFiles
from giblet_ray.precompute.chosen import chosen_parts
from giblet_ray.preflight.disk import disk_room
from giblet_ray.preflight.need import Need
from giblet_ray.preflight.report import Report

_BYTES_PER_SECOND = 100_000
"""A generous film, and what MLflow keeps of the run, per second of film."""


def preflight_demo(job: DemoJob, training: TrainJob, show: Callable[[str], None]) -> None:
    """Say what the demo makes and how large it is; make nothing.

    Parameters
    ----------
    job : DemoJob
        Length and place.
    training : TrainJob
        The training that follows.
    show : callable
        Takes each line that the user should see.

    Raises
    ------
    InputError
        If there is no room for it.
    """
    made = DemoSettings(**job.made())
    seconds = made.n_trs * made.tr_seconds
    length = {"n_trs": made.n_trs, "tr_seconds": made.tr_seconds, "seconds": seconds}
    film = FilmFiles(name="film", **length, files={})
    sources = PrecomputeJob(
        out=job.out, film=("film.mp4",), text=("film.srt",), embedding=job.embedding
    )
    parts = chosen_parts(sources)
    row = sum(part.value(film).nbytes for part in parts.values())
    n_scans = made.n_repeats * made.n_subjects
    dataset = made.n_trs * (row + 4 * n_scans * made.n_voxels)
    total = 2 * dataset + int(seconds * _BYTES_PER_SECOND)
    report = Report(show)
    report.add(
        "demo",
        {
            "film": f"{seconds / 60:.1f} minutes with sound and subtitles, {made.n_trs:,} TRs",
            "scans": f"{n_scans} of {made.n_subjects} subjects, {made.n_voxels:,} voxels",
            "training": (
                f"on {training.scaling.min_workers} workers; with the rest, and ridge beside it, "
                "about 4 minutes on two cores"
            ),
            "disk": report.check(
                lambda needed: disk_room(Storage.at(job.out), needed, "--out"),
                Need({"data set": dataset}, {"the rest": total - dataset}),
            ),
        },
    )
    report.conclude("nothing was made")
