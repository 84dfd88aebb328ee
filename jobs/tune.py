"""Search settings: train many encoding models on one data set, and find the best.

    python jobs/tune.py --dataset data/film --name night --sweep.num_samples 32 \\
        --sweep.space model.audio_codebooks=2,4,8 optimizer.lr=1e-4..1e-2:log
    python jobs/tune.py --sweep.resume night

Takes a data set that jobs/precompute.py wrote, and the settings of jobs/train.py. Gives one run per
trial, below --storage.path and in MLflow, and the best settings as a file for jobs/train.py.
A sweep that was interrupted continues with --sweep.resume.
"""

from __future__ import annotations

from typing import Any

from giblet_ray.cli import run_job
from giblet_ray.config import TuneJob
from giblet_ray.console import show, show_table


def main(job: TuneJob) -> None:
    """Search, and say what is best and where everything is."""
    if job.preflight.only:
        from giblet_ray.preflight.sweep import preflight_sweep

        preflight_sweep(job, show)
        return
    from giblet_ray.tuning.sweep import sweep

    show(f"sweep {job.sweep.resume or job.name}")
    swept = sweep(job, show, check)
    swept.print_table()
    show_table("best", swept.summary())


def check(*planned: Any) -> None:
    """Look whether a sweep fits, with what takes seconds to import."""
    from giblet_ray.preflight.sweep import check_sweep

    check_sweep(*planned)


if __name__ == "__main__":
    run_job(TuneJob, main)
