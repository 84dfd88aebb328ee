"""Trainings within this process: one rank, without Ray, that can be told to die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from giblet_ray.checkpoint.record import RunRecord
from giblet_ray.checkpoint.store import (
    keep_checkpoint,
    latest_record,
    open_latest,
    store_files,
)
from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import MemoryLoader
from giblet_ray.dataset.residence import normalise_here
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import run_record, sized
from giblet_ray.training.loop import BareLink, train


class DeathError(Exception):
    """Stands for the death of the process."""


class LocalLink(BareLink):
    """One rank, whose checkpoints go to a folder and whose curves go to lists."""

    def __init__(
        self, folder: Path, die_at: Callable[[dict[str, float]], bool], device: torch.device
    ) -> None:
        super().__init__(device)
        self.place = self._storage, self._run = Storage.at(str(folder.parent)), folder.name
        self._die_at = die_at
        self.points: list[tuple[int, dict[str, float]]] = []
        self.reports: list[dict[str, float]] = []
        self.lines: list[str] = []

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        with open_latest(self._storage, self._run, self.show) as folder:
            yield folder

    def keep(self, folder: Path, name: str) -> None:
        keep_checkpoint(self._storage, self._run, folder, name)

    def report(self, metrics: dict[str, float]) -> None:
        self.reports.append(metrics)
        if self._die_at(metrics):
            raise DeathError("killed here")

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.points.append((step, metrics))

    def show(self, line: str) -> None:
        self.lines.append(line)


class RankLink(LocalLink):
    """One of several ranks, each of which stores its files of a checkpoint."""

    def __init__(self, rank: int, folder: Path, die_at: Callable[[dict[str, float]], bool]) -> None:
        super().__init__(folder, die_at, torch.device("cpu"))
        self.rank, self.world_size = rank, world_size()

    def keep(self, folder: Path, name: str) -> None:
        if self.rank == 0:
            super().keep(folder, name)
        else:
            store_files(*self.place, folder, name)


class LocalTraining:
    """A training without Ray: one rank in this process, over rows read directly."""

    def __init__(self, job: TrainJob) -> None:
        self.data = plan_data(job)
        self.job = sized(job, self.data)
        dataset, selection = self.data.dataset, self.data.selection
        self._held = HeldRows(
            [dataset.read(span, selection) for span in dataset.row_groups(selection.parts)],
            selection.value_types(dataset),
            self.data.scans,
            dataset.bold_trs,
        )
        self.normalisation = normalise_here(self.data)

    def loader(self, device: torch.device) -> MemoryLoader:
        """Return what delivers batches to a device."""
        how = (self.data.values, self.data.lag_trs, device, self.data.context_trs)
        return MemoryLoader(self._held, *how)

    def train(
        self,
        folder: Path,
        die_at: Callable[[dict[str, float]], bool] = lambda metrics: False,
        device: str = "cpu",
        residence: Literal["memory", "stream"] = "memory",
        run: RunRecord | None = None,
    ) -> LocalLink:
        """Train, or go on from the latest checkpoint in the folder.

        Rows lie in memory; a run that begins draws the order that suits `residence`. What the run
        is, is looked up in the folder, unless it is given.
        """
        link = LocalLink(folder, die_at, torch.device(device))
        loader = self.loader(link.device)
        data = replace(self.data, residence=residence)
        run = run or run_record(self.job, data, latest_record(*link.place))
        windows = data.ordered(run.order)
        train(self.job, run, windows, loader, self.normalisation, data.space_files(), link)
        return link
