"""The training of a model that is fitted at once: one fit, one evaluation, one checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from giblet_ray.checkpoint.record import Position, RunRecord, check_same_run, read_record
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import OrderedWindows
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.windows import Windows, equal_length_batches
from giblet_ray.models.fitted import FittedPredictor, Samples
from giblet_ray.models.predictor import Shapes
from giblet_ray.training.checkpoint_writer import CheckpointWriter
from giblet_ray.training.memory import MemoryPeak
from giblet_ray.training.pace import epoch_line
from giblet_ray.training.step import Ranks, Scores

if TYPE_CHECKING:
    from giblet_ray.training.loop import Link


class TrainingWindows:
    """The :class:`giblet_ray.models.fitted.TrainingTrs` of a run.

    Parameters
    ----------
    windows : Windows
        What trains.
    scans : sequence of ScanKey
        What a window's scan index means.
    loader, scores : Loader, Scores
        Deliver windows, and z-score their BOLD.
    batch_trs : int
        TRs that are read at a time.
    dataset : str
        Folder or URI of the data set.
    """

    def __init__(
        self,
        windows: Windows,
        scans: Sequence[ScanKey],
        loader: Loader,
        scores: Scores,
        batch_trs: int,
        dataset: str,
    ) -> None:
        self.windows, self.scans, self._dataset = windows, scans, dataset
        self.lacking = scores.shapes.lacking
        self._loader, self._scores, self._batch_trs = loader, scores, batch_trs

    def read(self, windows: Windows) -> Iterator[Samples]:
        """See :class:`giblet_ray.models.fitted.TrainingTrs`."""
        for batch in self._loader.batches(equal_length_batches(windows, self._batch_trs)):
            inputs, _, bold_BWV = self._scores.read(batch, slice(None))
            lacking = self._scores.lacking(batch.windows.scan)
            yield Samples(batch.windows, inputs, batch.exists, bold_BWV, lacking)

    def blob(self, part: str, name: str) -> bytes:
        """See :class:`giblet_ray.models.fitted.TrainingTrs`."""
        return Dataset.described(self._dataset).part_blob(part, name)


def training_trs(
    job: TrainJob,
    run: RunRecord,
    windows: Windows,
    loader: Loader,
    scores: Scores,
    normalisation: Normalisation,
) -> TrainingWindows:
    """Return what a model may learn from, of a run."""
    how = (loader, scores, job.train.batch_trs, run.dataset.location)
    return TrainingWindows(windows, normalisation.scans, *how)


def fit_at_once(
    model: FittedPredictor,
    job: TrainJob,
    run: RunRecord,
    windows: OrderedWindows,
    loader: Loader,
    normalisation: Normalisation,
    space: Mapping[str, bytes],
    link: Link,
) -> None:
    """Fit a model, score it, and keep it: a run of one epoch.

    Parameters
    ----------
    model : FittedPredictor
        On its device.
    job, run, windows, loader, normalisation, space, link
        As :func:`giblet_ray.training.loop.train` takes them; the only rank's.

    Raises
    ------
    InputError
        If it cannot be fitted, or the checkpoint that is there is of another run.
    """
    with link.resume() as folder:
        if folder is not None:
            check_same_run(read_record(folder), run)
            return  # it was kept, and whoever kept it died before it could say so
    started = time.perf_counter()
    memory = MemoryPeak(link.device)
    ranks = Ranks(model, 1, link.device, frozen_batch_norm=True)
    scores = Scores(normalisation, Shapes.of_record(run.dataset), job, link.device)
    model.fit(training_trs(job, run, windows.train, loader, scores, normalisation), link.show)
    seconds = time.perf_counter() - started
    _, on_training = scores.evaluate(ranks, loader, windows.train, rank=0)
    voxels, on_validation = scores.evaluate(ranks, loader, windows.val, rank=0)
    metrics = {
        "train/loss": on_training["val/loss"],
        "train/mse": on_training["val/mse"],
        **on_validation,
        "train/rows_per_second": windows.train.n_trs / seconds,
        "train/data_wait_share": min(1.0, loader.seconds_waited / seconds),
        "train/seconds": seconds,
        "train/steps": 1,
        **memory.bytes(),
    }
    position = Position(epoch=1, step=1, history=[{"epoch": 1, **metrics}])
    link.log(metrics, 1)
    link.show(epoch_line(position, job.train, "0 s left"))
    with CheckpointWriter(model, {}, normalisation, space, run, link) as writer:
        writer.save(position, voxels)
    link.report({"epoch": 1, **metrics})
