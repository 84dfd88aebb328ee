"""A training in small: a few real steps, an evaluation and a checkpoint, in a worker of its own.

It runs the training loop itself, on a CPU, over a sample of the data, as one rank of as many as
there will be: what it holds and how long it takes is what a worker on a CPU holds and takes. What
it learns is thrown away.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
import torch.distributed as dist
from ray.exceptions import ActorDiedError

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import Loader
from giblet_ray.dataset.order import OrderedWindows
from giblet_ray.dataset.residence import open_loader
from giblet_ray.dataset.view import DataView
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError
from giblet_ray.preflight.brief import made_once_bytes, streamed_bytes, validated_bytes
from giblet_ray.preflight.overfit import Overfit, overfit
from giblet_ray.preflight.sample import Sample, SampleLoader
from giblet_ray.preflight.size import step_size
from giblet_ray.training.data import model_shapes
from giblet_ray.training.identity import new_order, run_record
from giblet_ray.training.loop import BareLink, train

HELD_OF_EACH = 4 + 3
"""Numbers that are held for each that trains: itself, its gradient and AdamW's two; and of a
checkpoint that is being written itself and the last two."""
_STEPS = 3
_WHOLE = {"shard_head": "off"}
_EPOCHS = 2
"""The second is timed: by then the optimizer has its moments and the memory has been touched."""

_IMPORTS = (
    "giblet_ray.training.worker",
    "giblet_ray.tracking.metric_log",
    "giblet_ray.tracking.system_metrics",
)
"""What the first worker imports; libraries are most of what a small training holds."""
_SQLITE_IMPORTS = ("mlflow.store.tracking.sqlalchemy_store",)
"""What MLflow adds to it for a store without a server."""


@dataclass(frozen=True)
class Rehearsal:
    """What a worker's training was measured to take, on a CPU."""

    peak_bytes: int
    """The most that it held while training; and as many streamed rows, vectors of films and rows
    for metrics as a training holds, which are more than a sample has."""
    step_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    """Of one optimizer step, one batch of validation windows, one checkpoint until it is
    written."""
    checkpoint_bytes: int
    """Size of a checkpoint."""
    overfit: Overfit
    """Whether the model can learn one batch by heart."""


def rehearse(
    job: TrainJob,
    data: DataView,
    sample: Sample,
    tables: list[pa.Table],
    ranks: int,
    memory: int,
    elsewhere: int = 0,
) -> Rehearsal:
    """Rehearse a training in a process that reserves memory and the CPUs of a worker, and no GPU.

    Parameters
    ----------
    job : TrainJob
        Settings of the run.
    data : DataView
        What will be trained on.
    sample, tables : Sample, list of Table
        The rows that it is rehearsed with; they are shared through the object store, as a
        training's are.
    ranks : int
        Workers that share a batch.
    memory : int
        Bytes that it is expected to take; a machine that has them is chosen.
    elsewhere : int
        Bytes of weights that other workers have, who share out the head: it is rehearsed whole,
        and what it then holds for them is taken off.

    Raises
    ------
    InputError
        If the process is killed, as happens where there is too little memory.
    """
    blocks = [ray.put(table) for table in tables]
    actor = ray.remote(_Rehearsing).options(
        num_cpus=job.scaling.cpus_per_worker, memory=memory, max_restarts=0
    )
    worker: Any = actor.remote()
    try:
        found: Rehearsal = ray.get(worker.run.remote(job, data, sample, blocks, ranks))
        return replace(found, peak_bytes=found.peak_bytes - HELD_OF_EACH * elsewhere)
    except ActorDiedError as error:
        raise InputError(
            "the process that rehearsed the training was lost, most likely for want of memory: "
            "use a smaller model or --train.batch_trs, or more --train.accumulation"
        ) from error
    finally:
        ray.kill(worker)


class _Rehearsing:
    """An actor, so that the process ends with it and takes its process group along."""

    def run(
        self, job: TrainJob, data: DataView, sample: Sample, blocks: list[ray.ObjectRef], ranks: int
    ) -> Rehearsal:
        for name in (*_IMPORTS, *(_SQLITE_IMPORTS if "sqlite" in job.tracking.uri else ())):
            importlib.import_module(name)
        tables = ray.get(blocks)
        columns = sample.selection.value_types(data.dataset)
        how = (data.values, data.scans, columns, data.lag_trs, data.context_trs)
        loader: Loader = SampleLoader(sample, tables, *how)
        if data.residence == "stream":
            loader = open_loader(data, torch.device("cpu"), new_order(job, data))
        normalisation = sample.normalisation(data, tables)
        if ranks > 1:
            # One process stands for all: gradients lie in the buckets that they are reduced from.
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        link = RehearsalLink(ranks)
        run = run_record(job, data, None)
        size = run.order.batch_size
        windows = _repeated(sample.train, _STEPS * size)
        validated = _repeated(sample.val, min(len(data.val), size))
        order = run.order.model_copy(update={"windows": len(windows), "streamed": None})
        ordered = OrderedWindows(windows, validated, np.zeros(len(windows), int), order)
        train(_shortened(job), run, ordered, loader, normalisation, data.space_files(), link)
        return Rehearsal(
            peak_bytes=int(link.metrics["memory/host_peak_bytes"])
            + streamed_bytes(job, data)
            + validated_bytes(job, data)
            + made_once_bytes(data, step_size(job, model_shapes(data), 1, ranks, data.window)),
            step_seconds=link.metrics["train/seconds"] / _STEPS,
            evaluation_seconds=link.evaluation_seconds,
            checkpoint_seconds=link.checkpoint_seconds,
            checkpoint_bytes=link.checkpoint_bytes,
            overfit=overfit(job, data, loader, sample.train, normalisation),
        )


def _shortened(job: TrainJob) -> TrainJob:
    """Return the job with so few epochs, all of them, no checkpoint within one, and the head whole:
    there is nobody to share it out with."""
    course = {"epochs": _EPOCHS, "patience": 0, "checkpoint_every_steps": 0}
    model = job.model if job.model.sharding == "off" else job.model.model_copy(update=_WHOLE)
    train = job.train.model_copy(update=course)
    return job.model_copy(update={"train": train, "model": model})


def _repeated(windows: Windows, n: int) -> Windows:
    """Return n windows, some of them more than once if there are fewer."""
    return windows[np.resize(np.arange(len(windows)), n)]


class RehearsalLink(BareLink):
    """The link of a rehearsal, which keeps times and sizes."""

    awaits_checkpoints = True

    def __init__(self, world_size: int) -> None:
        super().__init__(torch.device("cpu"))
        self.world_size = world_size
        self.metrics: dict[str, float] = {}
        self.evaluation_seconds = self.checkpoint_seconds = 0.0
        self.checkpoint_bytes = 0
        self._reported = self._logged = 0.0

    def keep(self, folder: Path, name: str) -> None:
        """Measure the checkpoint."""
        self.checkpoint_bytes = sum(path.stat().st_size for path in folder.iterdir())

    def report(self, metrics: dict[str, float]) -> None:
        """Note how long the checkpoint has taken."""
        self.metrics = metrics
        self._reported = time.perf_counter()
        self.checkpoint_seconds = self._reported - self._logged

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note when an epoch has been evaluated."""
        if "train/seconds" in metrics:
            self._logged = time.perf_counter()
            self.evaluation_seconds = self._logged - self._reported - metrics["train/seconds"]
