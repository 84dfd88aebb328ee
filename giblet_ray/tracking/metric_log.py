"""Metrics to MLflow from a thread, so that a slow or absent server never holds up training."""

from __future__ import annotations

import queue
import threading
import time

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from giblet_ray.tracking.quiet import quiet_mlflow

_BATCH = 500
_FLUSH_SECONDS = 1.0
_RETRY_SECONDS = 5.0


class MetricLog:
    """Queues metrics and writes them in the background; rank 0 alone has one.

    A training that is resumed repeats steps that were logged before it was interrupted; points up
    to the last logged step of a metric are therefore skipped.

    Parameters
    ----------
    uri : str
        Tracking store.
    run_id : str
        MLflow run to write to.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        quiet_mlflow()
        self._client = MlflowClient(uri)
        self._run_id = run_id
        self._last_step: dict[str, int] | None = None
        self._points: queue.Queue[Metric | None] = queue.Queue()
        self._unsent: list[Metric] = []
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Queue points; returns at once."""
        now = int(time.time() * 1000)
        for key, value in metrics.items():
            self._points.put(Metric(key, float(value), now, step))

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
            if (point := self._points.get_nowait()) is not None:
                left.append(point)
        return [
            {"key": m.key, "value": m.value, "timestamp": m.timestamp, "step": m.step} for m in left
        ]

    def _work(self) -> None:
        while True:
            point = self._points.get()
            if point is not None:
                self._unsent.append(point)
            deadline = time.monotonic() + _FLUSH_SECONDS
            ended = point is None
            while not ended and len(self._unsent) < _BATCH:
                try:
                    point = self._points.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                ended = point is None
                if point is not None:
                    self._unsent.append(point)
            self._send()
            if ended:
                return

    def _send(self) -> None:
        """Write the unsent points, however long the server is away."""
        while self._unsent:
            try:
                if self._last_step is None:
                    self._last_step = self._logged_steps()
                last = self._last_step
                batch = self._unsent[:_BATCH]
                new = [m for m in batch if m.step > last.get(m.key, -1)]
                if new:
                    self._client.log_batch(self._run_id, metrics=new)
                del self._unsent[: len(batch)]
            except (MlflowException, OSError):
                time.sleep(_RETRY_SECONDS)

    def _logged_steps(self) -> dict[str, int]:
        """Return the last step of every metric of the run."""
        run = self._client.get_run(self._run_id)
        return {
            key: max(m.step for m in self._client.get_metric_history(self._run_id, key))
            for key in run.data.metrics
        }
