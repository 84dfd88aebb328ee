"""Banded ridge beside a run: on the same parts, units and TRs, fitted once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from giblet_ray.config import EvaluateJob, TrainJob
from giblet_ray.judge.judge import judge_run
from giblet_ray.judge.opened import OpenedRun
from giblet_ray.models.ridge.config import RidgeConfig
from giblet_ray.training.trainer import fit


def fit_ridge(opened: OpenedRun, job: EvaluateJob, show: Callable[[str], None]) -> str:
    """Return the folder of the ridge run beside a run; fit it if it is not there yet.

    Its name follows from the data set, the split, the parts and the units, so that all runs on the
    same data share it.

    Parameters
    ----------
    opened : OpenedRun
        The run.
    job : EvaluateJob
        Where runs are kept and recorded.
    show : callable
        Takes each line that the user should see.

    Raises
    ------
    InputError
        If ridge cannot take the parts, or the fit does not fit the machine.
    """
    record = opened.checkpoint.record
    data = {
        name: record.config["data"][name]
        for name in ("modalities", "audio", "subjects", "voxels", "split")
    }
    units = [each.model_dump() for each in record.units]
    same = json.dumps([record.dataset.checksum, data, units], sort_keys=True)
    name = f"ridge-{hashlib.sha256(same.encode()).hexdigest()[:10]}"
    if record.units:  # as the run chose them: their file may be gone
        kept = Path(job.out or "evaluation") / f"{name}-units.npy"
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, record.units[0].indices)
        data["voxels"] = str(kept)
    show(f"ridge beside it: run {name}")
    trained = fit(
        TrainJob.model_validate(
            {
                "dataset": opened.data.dataset.storage.location,
                "name": name,
                "data": data,
                "model": RidgeConfig(),
                "storage": job.storage.model_dump(),
                "tracking": {**job.tracking.model_dump(), "log_model": False},
            }
        ),
        show,
        judge=judge_run,
    )
    return trained.run_folder
