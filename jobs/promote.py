"""Make a run's best model the one that others use: an alias in MLflow's model registry.

    python jobs/promote.py --run first
    python jobs/promote.py --best-of sweep-20261122-182801
    python jobs/promote.py --stack first second                 # one model of both
    python jobs/promote.py --best-of night --top 5 --stack first

Takes a run or a sweep. Registers its best model as models:/giblet-encoder@champion, with its
scores, unless the present champion is better, or was judged on other data. --force does it
all the same. Runs that are stacked become a run of their own: a convex combination of their
predictions with weights of each unit, found on validation TRs and judged on test TRs; what is
printed says by how much each of them carries.
"""

from __future__ import annotations

from giblet_ray.cli import run_job
from giblet_ray.config import PromoteJob
from giblet_ray.console import show, show_table
from giblet_ray.tracking.sqlite import check_store


def main(job: PromoteJob) -> None:
    """Promote, and say what replaced what."""
    check_store(job.tracking.uri)  # before MLflow is imported, which takes seconds
    if job.preflight.only:
        from giblet_ray.preflight.records import preflight_promotion

        preflight_promotion(job, show)
        return
    from giblet_ray.promotion.promote import promote

    promoted = promote(job, show)
    title = "promoted" if promoted.changed else "promoted already"
    show_table(title, promoted.summary())


if __name__ == "__main__":
    run_job(PromoteJob, main)
