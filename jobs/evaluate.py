"""Judge finished runs on their test TRs: scores, chance, intervals, noise ceiling, and ridge.

    python jobs/evaluate.py --run first
    python jobs/evaluate.py --run night first --ceiling repeats --out scores
    python jobs/evaluate.py --run first --partition subsets --atlas schaefer.nii.gz

Takes runs by name, folder or URI, sweeps (their best trial), trainings in folds (all of them
together), or registered models. Gives for each, below --out: units.parquet (r, R2, p, q and r /
ceiling of every unit), r in the kind of file that the scans were, scores.json and report.html, one
page with figures, captions and methods; the same in MLflow. Banded ridge is fitted on the same
parts, units and training TRs, once, and set beside each run. --partition adds which part carries
the prediction: a table, and maps; --atlas a table by region (regions.csv).
"""

from __future__ import annotations

from giblet_ray.cli import run_job
from giblet_ray.config import EvaluateJob
from giblet_ray.console import show, show_table


def main(job: EvaluateJob) -> None:
    """Evaluate, and say how good each run is and where everything is."""
    if job.preflight.only:
        from giblet_ray.preflight.records import preflight_evaluation

        preflight_evaluation(job, show)
        return
    from giblet_ray.judge.runs import evaluate_all

    for name, told in evaluate_all(job, show):
        show_table(name, told)


if __name__ == "__main__":
    run_job(EvaluateJob, main)
