"""Compare the trainings of an experiment: which is best, by how much, and which settings count.

    python jobs/compare.py --experiment giblet_ray

Takes the runs that jobs/train.py and jobs/tune.py logged to MLflow. Gives a table of runs side by
side, best first, and below --out one page with all figures (comparison.html), the figures as PNG,
and runs.csv and comparison.json for scripts. Changes nothing in MLflow.
"""

from __future__ import annotations

from giblet_ray.cli import run_job
from giblet_ray.config import CompareJob
from giblet_ray.console import show, show_table


def main(job: CompareJob) -> None:
    """Compare, show the runs, and say where the page is."""
    if job.preflight.only:
        from giblet_ray.preflight.records import preflight_comparison

        preflight_comparison(job, show)
        return
    from giblet_ray.comparison.compare import compare

    comparison, written = compare(job, show)
    from giblet_ray.comparison.terminal import show_comparison

    show_comparison(comparison, show)
    show_table("compared", written.rows())


if __name__ == "__main__":
    run_job(CompareJob, main)
