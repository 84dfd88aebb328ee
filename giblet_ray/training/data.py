"""What a training reads of its data set, by its settings and its model's."""

from __future__ import annotations

from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.errors import InputError
from giblet_ray.models.build import stimulus_parts


def plan_data(job: TrainJob, dataset: Dataset | None = None) -> DataView:
    """Decide what a training reads, from the settings and the manifest alone; starts nothing.

    Parameters
    ----------
    job : TrainJob
        Validated settings.
    dataset : Dataset, optional
        The job's data set, if it is open already.

    Raises
    ------
    InputError
        If the data set lacks what is asked for, or the split leaves too little.
    """
    dataset = dataset or Dataset.open(job.dataset)
    parts = stimulus_parts(job.data)
    leading = {}
    if "codes" in parts and "codes" in dataset.manifest.parts:
        n_codebooks = leading["codes"] = job.model.audio_codebooks
        held = dataset.value_type("codes").shape[0]
        if n_codebooks > held:
            raise InputError(
                f"--model.audio_codebooks {n_codebooks}: {dataset.storage.location} has {held} "
                f"codebooks; use at most {held}, or precompute with --codes.codebooks {n_codebooks}"
            )
    return view_data(dataset, job.data, parts, leading)
