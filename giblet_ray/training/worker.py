"""One of Ray Train's workers: the training loop, linked to Ray, MLflow and the user's terminal."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train
import ray.train.torch
from ray.train.collective import broadcast_from_rank_zero

from giblet_ray.checkpoint.record import RunRecord, read_record
from giblet_ray.checkpoint.store import keep_checkpoint, open_latest, store_files
from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import DeviceLoader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.residence import open_loader
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.progress import Show
from giblet_ray.tracking.points import RunAddress, keep_unsent, read_unsent, unsent_name
from giblet_ray.training.loop import train

if TYPE_CHECKING:
    from giblet_ray.tracking.metric_log import MetricLog
    from giblet_ray.tracking.system_metrics import SystemMetrics

_FLUSH_SECONDS = 10.0
"""Time that a worker gives MLflow at its end; the driver has more patience."""

_POLL_SECONDS = 0.05
"""How often a worker that waits for its data asks for it."""

Point = tuple[int, dict[str, float]]
"""Step, and metrics."""


@dataclass(frozen=True)
class Given:
    """What workers train on; they start before it is ready."""

    data: DataView
    """With its blocks."""
    run: RunRecord
    """What is trained, and how."""
    normalisation: Normalisation
    """Of the data's BOLD."""
    mlflow: RunAddress | None
    """Run that rank 0 logs to. Without one, the points of the curves are reported with the metrics
    of their epoch, as ``points``."""


def train_worker(config: dict[str, Any]) -> None:
    """Train as one of Ray Train's workers, once there is something to train on."""
    job: TrainJob = config["job"]
    monitor: Any = config["monitor"]
    given = _await(monitor)
    if given is None:
        return  # an error that would only come again: the driver raises it
    data, run = given.data, given.run
    link = TrainLink(monitor, job, given.mlflow)
    try:
        loader = open_loader(data, link.device, run.order)
        if link.rank == 0 and isinstance(loader, DeviceLoader):
            link.show(f"every GPU holds the data: {data.n_bytes / 1e9:,.2f} GB")
        space, normalisation = data.space_files(), given.normalisation
        train(job, run, data.ordered(run.order), loader, normalisation, space, link)
    except InputError as error:
        ray.get(monitor.give_up.remote(str(error)))
        raise
    finally:
        link.close()


def _await(monitor: Any) -> Given | None:
    """Return what is trained on once it is ready; None if the training is given up."""
    monitor.arrived.remote()
    if ray.train.get_context().get_world_size() > 1:  # DistributedDataParallel imports it, later
        importlib.import_module("torch._dynamo")
    while True:
        fatal, _ = ray.get(monitor.fatal.remote())
        if fatal is not None:
            return None
        for reference in ray.get(monitor.given.remote()):
            return ray.get(reference)
        time.sleep(_POLL_SECONDS)


def open_checkpoint(storage: Storage, name: str) -> AbstractContextManager[str]:
    """Give a local folder with the files of a checkpoint.

    One on another file system is copied for as long as it is open, once for all processes of a
    node.
    """
    return ray.train.Checkpoint(storage.path(name), storage.filesystem).as_directory()


class _Aloud(logging.Handler):
    """Shows what this package warns of, such as storage that is tried again, to the user."""

    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        self._show(record.getMessage())


class TrainLink:
    """A worker's :class:`giblet_ray.training.loop.Link` to Ray Train and MLflow."""

    def __init__(self, monitor: Any, job: TrainJob, mlflow: RunAddress | None) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.awaits_checkpoints = mlflow is None  # Ray Tune may end a trial in a report
        self._monitor, self._job = monitor, job
        self._storage = Storage.at(job.storage.path)
        self._aloud = _Aloud(self.show)
        logging.getLogger("giblet_ray").addHandler(self._aloud)
        self._points: list[Point] = []
        self._metrics: MetricLog | None = None
        self._system: SystemMetrics | None = None
        self._node: str | None = None
        if self.world_size > context.get_local_world_size():
            self._node = f"node-{context.get_node_rank()}"
        if mlflow is not None and context.get_local_rank() == 0:
            self._open_mlflow(mlflow)

    def _open_mlflow(self, run: RunAddress) -> None:
        """Begin to record: rank 0 all there is, the first rank of each node how its node fares."""
        # Imported by one worker a node: MLflow takes seconds, and ranks wait for one another.
        from giblet_ray.tracking.metric_log import MetricLog
        from giblet_ray.tracking.system_metrics import SystemMetrics

        self._run_id = run.run_id
        self._metrics = MetricLog(run.uri, self.show if self.rank == 0 else None)
        every = self._job.tracking.system_metrics_seconds
        self._system = SystemMetrics(self._metrics, run, self._node, every)

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Give the folder of the latest checkpoint that is whole; rank 0 decides which it is."""
        name, folder = None, None
        with ExitStack() as stack:
            if self.rank == 0:
                opened = partial(open_checkpoint, self._storage)
                latest = open_latest(self._storage, self._job.name, self.show, opened)
                folder = stack.enter_context(latest)
                if folder is not None:
                    name = f"{self._job.name}/{read_record(folder).position.name}"
            name = broadcast_from_rank_zero(name)
            if self.rank > 0 and name is not None:
                folder = Path(stack.enter_context(open_checkpoint(self._storage, name)))
            if self.rank == 0 and folder is not None:
                self._restore(read_record(folder).unsent)
            elif self.rank > 0 and self._metrics is not None:
                # What its node left when MLflow was away; else it would be deleted unread.
                left = read_unsent(self._storage, self._job.name)
                self._restore(left.get(unsent_name(self._job.name, self._node), []))
            if self._system is not None:
                self._system.start()
            yield folder
        if self.rank == 0:
            self._monitor.started.remote()
            most = self._job.scaling.max_workers
            of = f" of at most {most}" if self._job.scaling.is_elastic else ""
            where = "a GPU each" if self.device.type == "cuda" else "CPUs"
            workers = f"{self.world_size}{of} worker{'s' if most > 1 else ''}"
            self.show(f"training with {workers} on {where}")

    def keep(self, folder: Path, name: str) -> None:
        """Store the files; rank 0's are the last."""
        if self.rank > 0:
            store_files(self._storage, self._job.name, folder, name)
            return
        keep_checkpoint(self._storage, self._job.name, folder, name)
        self._monitor.progressed.remote()

    def report(self, metrics: dict[str, Any]) -> None:
        """Hand the metrics to Ray Train; waits for all ranks."""
        if self._points:
            metrics["points"], self._points = self._points, []
        ray.train.report(metrics)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Queue points for MLflow, or for the next report."""
        if self._metrics is not None:
            self._metrics.log(self._run_id, metrics, step)
        else:
            self._points.append((step, metrics))

    def unsent(self) -> list[Any]:
        """Return the points that MLflow has not taken yet, or that no report has had."""
        return self._points if self._metrics is None else self._metrics.pending()

    def _restore(self, unsent: list[Any]) -> None:
        if self._metrics is not None:
            # Of this run, also if its id was another's, which has been deleted since.
            self._metrics.restore([{**point, "run": self._run_id} for point in unsent])
        else:
            self._points = [(step, metrics) for step, metrics in unsent]

    def show(self, line: str) -> None:
        """Send a line to the user's terminal."""
        self._monitor.write.remote(line)

    def close(self) -> None:
        """Hand MLflow what it has not got; what it does not take now, the driver will."""
        logging.getLogger("giblet_ray").removeHandler(self._aloud)
        if self._metrics is None or self._system is None:
            return
        self._system.stop()
        # After a short training MLflow is not imported yet here, and long since by the driver.
        unsent = self._metrics.close(_FLUSH_SECONDS if self._metrics.is_ready else 0)
        keep_unsent(self._storage, self._job.name, unsent, None if self.rank == 0 else self._node)
