"""A training without Ray: one rank in this process, over blocks read directly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import MemoryLoader
from giblet_ray.dataset.normalise import Moments, Normalisation, normalisation_from_moments
from giblet_ray.dataset.reader import Dataset, Selection, as_arrays, bold_column
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.splits import Split, split_blocks
from giblet_ray.dataset.windows import Run, cut_windows
from giblet_ray.training.loop import Samples, train

TINY_MODEL: dict[str, Any] = {
    "embed_dim": 4,
    "audio_codebooks": 2,
    "kernel_sizes": (3, 5),
    "video_features": 8,
    "audio_features": 8,
    "text_features": 8,
    "trunk_dims": (16, 16),
    "bottleneck_dim": 8,
    "head_dim": 16,
}


class DeathError(Exception):
    """Stands for the death of the process."""


class LocalLink:
    """One rank, whose checkpoints go to a folder and whose curves go to lists."""

    rank, world_size = 0, 1

    def __init__(
        self, folder: Path, die_at: Callable[[dict[str, float]], bool], device: torch.device
    ) -> None:
        self.folder, self._die_at, self.device = folder, die_at, device
        self.points: list[tuple[int, dict[str, float]]] = []
        self.reports: list[dict[str, float]] = []
        self.lines: list[str] = []

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        saved = sorted(self.folder.glob("epoch-*"))
        yield saved[-1] if saved else None

    def report(self, metrics: dict[str, float], checkpoint: Path | None, name: str) -> None:
        assert checkpoint is not None
        shutil.copytree(checkpoint, self.folder / name, dirs_exist_ok=True)
        self.reports.append(metrics)
        if self._die_at(metrics):
            raise DeathError("killed here")

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.points.append((step, metrics))

    def show(self, line: str) -> None:
        self.lines.append(line)


class LocalTraining:
    """Everything :func:`train` takes, for a data set on disk."""

    def __init__(self, dataset: Dataset, job: TrainJob) -> None:
        self.job = job
        parts = {"video": "frames", "audio": "codes", "text": "text"}
        selection = Selection(
            tuple(parts[m] for m in job.data.modalities),
            dataset.subjects,
            n_codebooks=job.model.audio_codebooks if "audio" in job.data.modalities else None,
        )
        self.runs = tuple(Run(*key) for key in sorted(dataset.scans))
        n_trs = {name: stimulus.n_trs for name, stimulus in dataset.stimuli.items()}
        lag = job.data.lag_trs
        self.split: Split = split_blocks({k: n - lag for k, n in n_trs.items()}, 0.2, 1, 14)
        self.samples = Samples(
            cut_windows(self.split.train, self.runs, job.data.window, keep_rest=False),
            cut_windows(self.split.val, self.runs, job.data.window, keep_rest=True),
            None,
        )
        tables = [dataset.read(span, selection) for span in dataset.row_groups()]
        columns = selection.value_types(dataset)
        self.values = {p: columns[p] for p in selection.parts}
        self.values["bold"] = dataset.manifest.values["bold"]
        self.held = HeldRows(tables, columns, self.runs, n_trs)
        self.normalisation = self._normalisation(dataset, selection, lag)
        self.record = {
            "config": job.model_dump(mode="json"),
            "dataset": {
                "values": {k: v.model_dump(mode="json") for k, v in self.values.items()},
                "n_voxels": dataset.n_voxels,
                "tr_seconds": dataset.manifest.tr_seconds,
                "made_with": dict.fromkeys(dataset.manifest.values),
                "checksum": dataset.manifest.checksum,
            },
        }

    def _normalisation(self, dataset: Dataset, selection: Selection, lag: int) -> Normalisation:
        moments: dict[Run, Moments] = {}
        for run in self.runs:
            for span in self.split.train:
                if span.stimulus == run.stimulus:
                    shifted = type(span)(span.stimulus, span.start + lag, span.stop + lag)
                    bold = dataset.read(shifted, Selection(subjects=(run.subject,)))
                    column = bold[bold_column(run.subject)].chunk(0)
                    found = Moments.of(as_arrays(column, dataset.manifest.values["bold"]))
                    moments[run] = moments[run].merge(found) if run in moments else found
        return normalisation_from_moments(self.runs, moments, "here")

    def train(
        self,
        folder: Path,
        die_at: Callable[[dict[str, float]], bool] = lambda metrics: False,
        device: str = "cpu",
    ) -> LocalLink:
        """Train, or go on from the latest checkpoint in the folder."""
        link = LocalLink(folder, die_at, torch.device(device))
        loader = MemoryLoader(self.held, self.values, self.job.data.lag_trs, link.device)
        train(self.job, self.record, self.samples, loader, self.normalisation, link)
        return link


@pytest.fixture(scope="session")
def local_training(
    arrays_and_dataset: tuple[Any, Dataset],
) -> Callable[..., LocalTraining]:
    """Make a training of the small data set, with settings by group."""

    def make(**groups: Any) -> LocalTraining:
        model = {**TINY_MODEL, **groups.pop("model", {})}
        settings = {"train": {"epochs": 4, "batch_size": 16}, **groups}
        job = TrainJob(dataset="small", model=model, **settings)
        return LocalTraining(arrays_and_dataset[1], job)

    return make
