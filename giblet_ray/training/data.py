"""What a training reads of its data set, by its settings and its model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from giblet_ray.checkpoint.record import DatasetRecord
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.errors import InputError
from giblet_ray.parts.built_in import parts_of

if TYPE_CHECKING:
    from giblet_ray.models.predictor import Shapes


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
    where = dataset.storage.location
    kinds = {name: part.kind for name, part in dataset.manifest.parts.items() if name != "bold"}
    parts = tuple(parts_of(job.data.modalities, job.data.audio, kinds, where).values())
    leading = {name: n for name, n in job.model.leading.items() if name in parts}
    if "codes" in leading:
        n_codebooks = leading["codes"]
        held = dataset.value_type("codes").shape[0]
        if n_codebooks > held:
            raise InputError(
                f"--model.audio_codebooks {n_codebooks}: {dataset.storage.location} has {held} "
                f"codebooks; use at most {held}, or precompute with --codes.codebooks {n_codebooks}"
            )
    context_trs = job.model.context_trs(dataset.manifest.tr_seconds)
    return view_data(dataset, job.data, parts, leading, context_trs)


def model_shapes(data: DataView) -> Shapes:
    """Return what a model of these data is built for."""
    # Here, so that data are planned without the seconds that torch takes to import.
    from giblet_ray.models.predictor import Shapes

    return Shapes.of_record(DatasetRecord.model_validate(data.describe()))
