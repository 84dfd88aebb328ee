"""Metrics to MLflow from a thread, so that a slow or absent server never holds up training.

Nor does MLflow itself, which takes seconds to import: the thread does that too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile

from giblet_ray.progress import Show
from giblet_ray.tracking.outbox import BATCH, Outbox
from giblet_ray.tracking.points import Point
from giblet_ray.tracking.quiet import quiet_mlflow


class PointWriter:
    """Writes points of curves, each once.

    A training that is resumed repeats steps that were logged before it was interrupted; points up
    to the last logged step of a metric are therefore skipped. So a metric's points have to come
    in the order of their steps, from one process at a time.

    Parameters
    ----------
    uri : str
        Tracking store.
    """

    def __init__(self, uri: str) -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        self._client = MlflowClient(uri)
        self._last_steps: dict[str, dict[str, int]] = {}

    def write(self, points: Sequence[Point]) -> None:
        """Write points of any runs, in order; of points that were written before, none."""
        from mlflow.entities import Metric

        while points:
            run_id = points[0]["run"]
            together = of_one_run(points)
            last = dict(self._last_steps.get(run_id) or self._logged_steps(run_id))
            new = []
            for point in together:
                if point["step"] > last.get(point["key"], -1):
                    last[point["key"]] = point["step"]
                    new.append(
                        Metric(point["key"], point["value"], point["timestamp"], point["step"])
                    )
            if new:
                self._client.log_batch(run_id, metrics=new)
            self._last_steps[run_id] = last
            points = points[len(together) :]

    def _logged_steps(self, run_id: str) -> dict[str, int]:
        """Return the last step of every metric of a run."""
        # The public ways to ask for a step read a metric's whole history, one by one.
        latest = self._client.get_run(run_id).data._metric_objs
        return {metric.key: metric.step for metric in latest}


class MetricLog(Outbox):
    """Queues metrics of one or more runs and writes them in the background.

    One process alone logs a training, or a sweep: rank 0, or the sweep's driver.

    Parameters
    ----------
    uri, show
        As :class:`Outbox` takes them.
    """

    def __init__(self, uri: str, show: Show | None = None) -> None:
        self._writer: PointWriter | None = None
        super().__init__(uri, show)

    def log(self, run_id: str, metrics: dict[str, float], step: int) -> None:
        """Queue points of an MLflow run; returns at once."""
        now = int(time.time() * 1000)
        self._put(
            [
                {"run": run_id, "key": key, "value": float(value), "timestamp": now, "step": step}
                for key, value in metrics.items()
            ]
        )

    def _together(self, entries: Sequence[Point]) -> Sequence[Point]:
        return of_one_run(entries)

    def _send(self, together: Sequence[Point]) -> None:
        self._writer = self._writer or PointWriter(self.uri)
        self._writer.write(together)


def of_one_run(points: Sequence[Point]) -> Sequence[Point]:
    """Return the first of some points, as many as are of one run and can be written at once."""
    run = points[0]["run"]
    return list(takewhile(lambda point: point["run"] == run, points[:BATCH]))
