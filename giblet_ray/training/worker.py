"""One of Ray Train's workers: the training loop, linked to Ray, MLflow and the user's terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.train
import ray.train.torch

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import DeviceLoader
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.training.data import TrainingData
from giblet_ray.training.loop import train

if TYPE_CHECKING:
    from giblet_ray.tracking.metric_log import MetricLog

SCORE = "val/pearson_mean"
"""Metric by which checkpoints are ranked."""
_UNSCORED = -2.0
"""Score of a checkpoint from within an epoch: less than any correlation. (Ray keeps scores as
JSON, where NaN and infinity are lost.)"""
_MLFLOW_PATIENCE_SECONDS = 60.0
_UNSENT = "mlflow-unsent.jsonl"


Point = tuple[int, dict[str, float]]
"""Step, and metrics."""


def train_worker(config: dict[str, Any]) -> None:
    """Train as one of Ray Train's workers."""
    job: TrainJob = config["job"]
    data: TrainingData = config["data"]
    board: Any = config["board"]
    if ray.get(board.fatal.remote()) is not None:
        return  # started again after an error that would only come again: the driver raises it
    link = TrainLink(board, job, config["mlflow"])
    try:
        loader = data.loader(link.device)
        if link.rank == 0 and isinstance(loader, DeviceLoader):
            link.show(f"every GPU holds the data: {data.n_bytes / 1e9:,.2f} GB")
        train(job, config["record"], data.samples(), loader, config["normalisation"], link)
    except InputError as error:
        ray.get(board.give_up.remote(str(error)))
        raise
    finally:
        link.close()


class TrainLink:
    """A worker's :class:`giblet_ray.training.loop.Link` to Ray Train and MLflow."""

    def __init__(self, board: Any, job: TrainJob, mlflow: tuple[str, str] | None) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self._board, self._job = board, job
        self._metrics: MetricLog | None = None
        self._points: list[Point] = []
        if self.rank == 0 and mlflow is not None:
            # Imported by one worker alone: MLflow takes seconds, and ranks wait for one another.
            from giblet_ray.tracking.metric_log import MetricLog

            uri, self._run_id = mlflow
            self._metrics = MetricLog(uri)

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Give the folder of the latest checkpoint, if there is one."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def report(self, metrics: dict[str, Any], checkpoint: Path | None, name: str) -> None:
        """Hand metrics and checkpoint to Ray Train; waits for all ranks."""
        saved = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
        metrics = {SCORE: _UNSCORED, **metrics}
        if self._points:
            metrics["points"], self._points = self._points, []
        ray.train.report(metrics, checkpoint=saved, checkpoint_dir_name=name)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Queue points for MLflow, or for the next report."""
        if self._metrics is not None:
            self._metrics.log(self._run_id, metrics, step)
        else:
            self._points.append((step, metrics))

    def show(self, line: str) -> None:
        """Send a line to the user's terminal."""
        self._board.write.remote(line)

    def close(self) -> None:
        """Wait until MLflow has every point, within reason."""
        if self._metrics is None:
            return
        unsent = self._metrics.close(_MLFLOW_PATIENCE_SECONDS)
        if unsent:
            storage, name = Storage.at(self._job.storage.path), f"{self._job.name}/{_UNSENT}"
            with storage.write(name) as stream:
                stream.writelines(json.dumps(point).encode() + b"\n" for point in unsent)
            self.show(f"MLflow did not take {len(unsent)} points: kept in {storage.describe(name)}")
