"""What a node has to do while it trains: CPU, memory, disk, network, GPUs; MLflow shows them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from giblet_ray.tracking.metric_log import MetricLog
from giblet_ray.tracking.points import RunAddress

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

_SAMPLES = 5
"""Samples that a point is the mean of."""


class SystemMetrics:
    """Logs the use of a node as system metrics of a run, from a thread.

    MLflow's own monitor gives up at the first request that fails, and begins again at step 0 with
    each process. Here, points go the way of the run's other points, and a point's step is the
    time since the run began (s), so that a run which is resumed goes on where it stopped.

    GPUs are seen where nvidia-ml-py is installed.

    Parameters
    ----------
    log : MetricLog
        Where points are queued.
    run : RunAddress
        The run.
    node : str or None
        What the node is called, if there are several: ``system/NODE/cpu_utilization_percentage``.
    every_seconds : float
        Time between points; 0 for none.
    """

    def __init__(
        self, log: MetricLog, run: RunAddress, node: str | None, every_seconds: float
    ) -> None:
        self._log, self._run, self._every_seconds = log, run, every_seconds
        self._prefix = "system/" if node is None else f"system/{node}/"
        self._stopped, self._watching = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)

    def start(self) -> None:
        """Begin, if points are wanted."""
        if self._every_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """Log no more points."""
        self._stopped.set()
        if self._watching.is_set():  # else it imports MLflow still, and will log nothing
            self._thread.join()

    def _work(self) -> None:
        monitors = _monitors()
        self._watching.set()
        while True:
            for _ in range(_SAMPLES):
                if self._stopped.wait(self._every_seconds / _SAMPLES):
                    return
                for monitor in monitors:
                    monitor.collect_metrics()
            metrics: dict[str, float] = {}
            for monitor in monitors:
                metrics |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            step = int(time.time() - self._run.started)
            named = {f"{self._prefix}{name}": value for name, value in metrics.items()}
            self._log.log(self._run.run_id, named, step)


def _monitors() -> list[BaseMetricsMonitor]:
    # By the thread that asks them: MLflow takes seconds to import.
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        return [*monitors, GPUMonitor()]
    except (ImportError, RuntimeError):
        return monitors  # no nvidia-ml-py, or no GPU
