r"""Turn films, subtitles and scans into a data set, or verify one.

    python jobs/precompute.py --out data/film --film film.mp4 --text film.srt \
        --bold sub-01.nii.gz sub-02.nii.gz --mask mask.nii.gz
    python jobs/precompute.py --out data/film --check

Takes films with sound, a text and any number of scans for each. Gives the folder --out: frames,
audio codes, text embeddings and BOLD, one row per TR, and a manifest. Interrupted and started
again, it keeps what is finished.
"""

from __future__ import annotations

from giblet_ray.cli import run_job
from giblet_ray.config import PrecomputeJob
from giblet_ray.console import show, show_table
from giblet_ray.errors import InputError


def main(job: PrecomputeJob) -> None:
    """Make the data set, or check it."""
    if job.check:
        check(job.out)
        return
    if job.preflight.only:
        from giblet_ray.preflight.precompute import preflight_precompute

        preflight_precompute(job, show)
        return
    from giblet_ray.precompute.precompute import precompute

    show_table("precomputed", precompute(job, show).rows())


def check(location: str) -> None:
    """Say what is in a data set, and what is wrong with it."""
    from rich.console import Console

    from giblet_ray.dataset.check import check_dataset
    from giblet_ray.dataset.contents import contents_tables

    report = check_dataset(location)
    for table in contents_tables(report.dataset):
        Console(highlight=False).print(table)
    for problem in report.problems:
        show(f"problem: {problem}")
    if report.problems:
        raise InputError(f"{location}: {len(report.problems)} problems; run precompute again")
    show(f"{location}: all checksums, TRs and values are right")


if __name__ == "__main__":
    run_job(PrecomputeJob, main)
