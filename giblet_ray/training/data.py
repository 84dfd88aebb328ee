"""What a training reads of its data set, by its settings and its model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from giblet_ray.checkpoint.record import DatasetRecord
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import SameFilm
from giblet_ray.dataset.view import DataView, view_data
from giblet_ray.parts.built_in import parts_of
from giblet_ray.parts.reading import find_reading

if TYPE_CHECKING:
    from giblet_ray.models.predictor import Shapes


def plan_data(
    job: TrainJob, dataset: Dataset | None = None, same: Sequence[SameFilm] | None = None
) -> DataView:
    """Decide what a training reads, from the settings and the manifest alone; starts nothing.

    Parameters
    ----------
    job, same
        As :func:`giblet_ray.training.trainer.fit` takes them.
    dataset : Dataset, optional
        The job's data set, if it is open already.

    Raises
    ------
    InputError
        If the data set lacks what is asked for, or the split leaves too little.
    """
    dataset = dataset or Dataset.open(job.dataset)
    encoders = encoders_of(job, dataset)
    leading = job.model.leading_of(encoders)
    for part, first in leading.items():
        setting = f"--model.{job.model.leading.get(encoders[part], 'members')} {first}"
        where = f"{setting}: {dataset.storage.describe(part)}"
        find_reading(encoders[part], part).check_leading(dataset.value_type(part), first, where)
    context_trs = job.model.context_trs(dataset.manifest.tr_seconds)
    return view_data(
        dataset,
        job.as_its_model.data,
        tuple(encoders),
        leading,
        context_trs,
        same,
        job.train.batch_trs,
        job.model.head_per_subject,
        job.model.films_may_lack_parts,
        job.model.trains,
    )


def encoders_of(job: TrainJob, dataset: Dataset) -> dict[str, str]:
    """Return the kind of encoder of each part that a training reads, in their order.

    Raises
    ------
    InputError
        If the data set lacks one.
    """
    stored = dataset.manifest.parts
    kinds = {name: part.kind for name, part in stored.items()}
    read = parts_of(job.data.modalities, job.data.audio, kinds, dataset.storage.location)
    return {part: stored[part].encoder for part in read.values()}


def model_shapes(data: DataView) -> Shapes:
    """Return what a model of these data is built for."""
    # Here, so that data are planned without the seconds that torch takes to import.
    from giblet_ray.models.predictor import Shapes

    return Shapes.of_record(DatasetRecord.model_validate(data.describe()), data.lag_trs)
