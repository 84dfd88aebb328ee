"""Trainings in a plain process, over rows in its memory: the project's own loop, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import DeviceLoader, Loader, MemoryLoader
from giblet_ray.dataset.normalise import UsedRows
from giblet_ray.dataset.order import OrderedWindows
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import new_order, run_record, sized
from giblet_ray.training.loop import BareLink, train


@dataclass(frozen=True)
class Point:
    """Metrics of a step or an epoch, and when they were logged (s since the epoch of the clock)."""

    step: int
    metrics: dict[str, float]
    at: float


class TimedLink(BareLink):
    """The link of one of several ranks, which keeps the points of the curves."""

    def __init__(self, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(device)
        self.rank, self.world_size = rank, world_size
        self.points: list[Point] = []

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Keep the points."""
        self.points.append(Point(step, metrics, time.time()))

    def curve(self, name: str) -> list[float]:
        """Return the values of a metric, in their order."""
        return [point.metrics[name] for point in self.points if name in point.metrics]

    def times(self, name: str) -> list[float]:
        """Return when the values of a metric were logged."""
        return [point.at for point in self.points if name in point.metrics]


class InMemory:
    """A job's data, read whole into this process.

    Parameters
    ----------
    job : TrainJob
        Settings of a training.
    """

    def __init__(self, job: TrainJob) -> None:
        self.data = replace(plan_data(job), residence="memory")  # which decides the order
        self.job = sized(job, self.data)
        dataset, selection = self.data.dataset, self.data.selection
        tables = [dataset.read(span, selection) for span in dataset.row_groups(selection.parts)]
        self.rows = HeldRows(
            tables, selection.value_types(dataset), self.data.scans, dataset.bold_trs
        )
        used = UsedRows(dataset, selection, self.data.scans, self.data.uses)
        self.normalisation = used.fit(tables)

    def held_by_device(self, device: torch.device) -> DeviceLoader:
        """Return what takes batches from tensors that lie on the device whole."""
        data = self.data
        places = data.scans, data.dataset.bold_trs, data.lag_trs, device, data.context_trs
        return DeviceLoader(self.rows, data.values, *places)

    def in_memory(self, device: torch.device) -> MemoryLoader:
        """Return what gathers batches here, and copies them to the device."""
        data = self.data
        return MemoryLoader(self.rows, data.values, data.lag_trs, device, data.context_trs)

    def ordered(self) -> OrderedWindows:
        """Return the windows, in the order that they train in."""
        return self.data.ordered(new_order(self.job, self.data))

    def train(
        self, link: BareLink, open_loader: Callable[[torch.device], Loader] | None = None
    ) -> None:
        """Train as one rank, over rows on its device unless another loader is wanted."""
        run, space = run_record(self.job, self.data, None), self.data.space_files()
        loader = (open_loader or self.held_by_device)(link.device)
        train(self.job, run, self.ordered(), loader, self.normalisation, space, link)
