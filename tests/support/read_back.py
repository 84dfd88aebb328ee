"""What a finished data set holds, and in which set of a training each TR is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_labels, stimulus_labels
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import SETS
from giblet_ray.training.data import plan_data


def bold_of(dataset: Dataset, key: ScanKey) -> np.ndarray:
    """Return BOLD of a scan, (T, V)."""
    (scan,) = (each for each in dataset.manifest.scans if each.key == key)
    rows = dataset.read_shard(scan.shard, bold_labels(key), scan.n_trs, 0, scan.n_trs)
    return as_arrays(rows, dataset.value_type(f"bold/{key.subject}"))


def part_of(dataset: Dataset, part: str, stimulus: str, phase: int = 0) -> np.ndarray:
    """Return a part's rows of a stimulus, (T, ...)."""
    found = dataset.stimuli[stimulus].phases[phase]
    labels = stimulus_labels(part, stimulus, phase)
    rows = dataset.read_shard(found.shards[part], labels, found.n_trs, 0, found.n_trs)
    return as_arrays(rows, dataset.value_type(part))


def sets_of(*words: str) -> dict[str, np.ndarray]:
    """Return the set of each TR of each film, as train.py draws it: its name, or "" in a gap."""
    view = plan_data(parse_job(TrainJob, words))
    sets = {name: np.full(n, "", "<U5") for name, n in view.dataset.bold_trs.items()}
    for name in SETS:
        for span in view.split.spans(name):
            sets[span.stimulus][span.start : span.stop] = name
    return sets


def set_of(sets: dict[str, np.ndarray], rows: Sequence[dict[str, object]], tr: float) -> set[str]:
    """Return in which sets the intervals are that a manifest lists as a group."""
    found: set[str] = set()
    for row in rows:
        first, stop = float(str(row["start_seconds"])), float(str(row["stop_seconds"]))
        of_film = sets[str(row["stimulus"])]
        found |= set(of_film[int(first // tr) : int(np.ceil(stop / tr))].tolist())
    return found
