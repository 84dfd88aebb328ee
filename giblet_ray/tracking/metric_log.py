"""Metrics to MLflow from a thread, so that a slow or absent server never holds up training."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from operator import itemgetter

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from giblet_ray.tracking.quiet import quiet_mlflow

_BATCH = 500
_FLUSH_SECONDS = 1.0
_RETRY_SECONDS = 5.0


class MetricLog:
    """Queues metrics of one or more runs and writes them in the background.

    One process alone logs a training, or a sweep: rank 0, or the sweep's driver.

    A training that is resumed repeats steps that were logged before it was interrupted; points up
    to the last logged step of a metric are therefore skipped.

    Parameters
    ----------
    uri : str
        Tracking store.
    """

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        self._client = MlflowClient(uri)
        self._last_step: dict[str, dict[str, int]] = {}
        self._points: queue.Queue[tuple[str, Metric] | threading.Event | None] = queue.Queue()
        self._unsent: list[tuple[str, Metric]] = []
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        """Queue points of an MLflow run; returns at once."""
        now = int(time.time() * 1000)
        for key, value in metrics.items():
            self._points.put((run_id, Metric(key, float(value), now, step)))

    def flush(self, patience_seconds: float) -> None:
        """Wait until what is queued has been written, but not longer than asked."""
        written = threading.Event()
        self._points.put(written)
        written.wait(patience_seconds)

    def close(self, patience_seconds: float) -> list[dict[str, float | str]]:
        """Write what is queued; return the points that the server did not take in time.

        Parameters
        ----------
        patience_seconds : float
            How long to go on trying.
        """
        self._points.put(None)
        self._thread.join(patience_seconds)
        if not self._thread.is_alive():
            return []
        left = list(self._unsent)
        while not self._points.empty():
            if isinstance(point := self._points.get_nowait(), tuple):
                left.append(point)
        return [
            {
                "run": run_id,
                "key": m.key,
                "value": m.value,
                "timestamp": m.timestamp,
                "step": m.step,
            }
            for run_id, m in left
        ]

    def _work(self) -> None:
        """Collect points for a while, write them, and again, until None says that it is over."""
        while True:
            item = self._points.get()
            deadline = time.monotonic() + _FLUSH_SECONDS
            while isinstance(item, tuple):
                self._unsent.append(item)
                if len(self._unsent) >= _BATCH:
                    break
                try:
                    item = self._points.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
            self._send()
            if isinstance(item, threading.Event):
                item.set()
            if item is None:
                return

    def _send(self) -> None:
        """Write the unsent points, however long the server is away."""
        while self._unsent:
            try:
                same_run = itertools.groupby(self._unsent[:_BATCH], key=itemgetter(0))
                run_id, points = next(same_run)
                batch = [metric for _, metric in points]
                if run_id not in self._last_step:
                    self._last_step[run_id] = self._logged_steps(run_id)
                last = self._last_step[run_id]
                new = [m for m in batch if m.step > last.get(m.key, -1)]
                if new:
                    self._client.log_batch(run_id, metrics=new)
                del self._unsent[: len(batch)]
            except (MlflowException, OSError):
                time.sleep(_RETRY_SECONDS)

    def _logged_steps(self, run_id: str) -> dict[str, int]:
        """Return the last step of every metric of a run."""
        run = self._client.get_run(run_id)
        return {
            key: max(m.step for m in self._client.get_metric_history(run_id, key))
            for key in run.data.metrics
        }
