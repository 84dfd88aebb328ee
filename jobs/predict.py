"""Predict the BOLD response to films with shards.

    python jobs/predict.py --model models:/giblet-encoder@champion --dataset data/new \\
        --out predicted/new

    python jobs/predict.py --model runs/best --dataset data/test --format algonauts2025 \\
        --samples samples/sub-*_fmri_samples.npy --out predicted/friends_s7.zip

Takes a trained model, and a data set that jobs/precompute.py wrote, with scans or without. Gives
a folder: for each stimulus a parquet file, one row per TR, and one like the scans that the model
was trained on (NIfTI, .npy); and predictions.json. With --format, one file of all subjects
instead, in that form, and beside it a .json that says what of it is predicted with what.
"""

from __future__ import annotations

from giblet_ray.cli import run_job
from giblet_ray.config import PredictJob
from giblet_ray.console import show, show_table


def main(job: PredictJob) -> None:
    """Predict, and say what is where."""
    if job.preflight.only:
        from giblet_ray.preflight.prediction import preflight_prediction

        preflight_prediction(job, show)
        return
    if job.format is not None:
        from giblet_ray.prediction.formatted import predict_format

        show_table("predicted", predict_format(job, show))
        return
    from giblet_ray.prediction.predict import predict

    show_table("predicted", predict(job, show).rows())


if __name__ == "__main__":
    run_job(PredictJob, main)
