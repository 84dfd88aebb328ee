"""What all tests share: one Ray cluster, one small data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import (
    Manifest,
    Scan,
    Source,
    Stimulus,
    bold_shard,
    stimulus_shard,
)
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import value_type, write_manifest, write_shard

ROW_GROUP_TRS = 16


def write_dataset(
    folder: Path,
    n_trs: dict[str, int],
    subjects: tuple[str, ...],
    n_voxels: int = 24,
    n_codebooks: int = 4,
    seed: int = 0,
    unseen: tuple[tuple[str, str], ...] = (),
    first_code: int | None = None,
) -> dict[str, np.ndarray]:
    """Write a data set of random numbers; BOLD follows the stimulus, so that it can be learned.

    Returns the arrays by shard path. `unseen` lists (subject, stimulus) pairs without a scan;
    `first_code` replaces the first code of each stimulus.
    """
    random = np.random.default_rng(seed)
    storage = Storage.at(str(folder))
    source = Source(name="made", sha256="0" * 64)
    arrays: dict[str, np.ndarray] = {}
    stimuli, scans = [], []
    mixing = random.normal(size=(4, n_voxels))
    for stimulus, n in n_trs.items():
        states = random.integers(0, 2, size=(n, 4))
        frames = random.integers(0, 80, (n, 3, 18, 32)) + 100 * states[:, :1, None, None]
        codes = random.integers(0, 512, (n, n_codebooks, 112)) + 512 * states[:, 1:2, None]
        if first_code is not None:
            codes[0, 0, 0] = first_code
        text = random.normal(size=(n, 1024)) + 2 * states[:, 2:3]
        parts = {
            "frames": frames.astype(np.uint8),
            "codes": codes.astype(np.int16),
            "text": text.astype(np.float32),
        }
        shards = {}
        for part, values in parts.items():
            path = stimulus_shard(part, stimulus)
            arrays[path] = values
            labels = {"part": part, "stimulus": stimulus}
            shards[part] = write_shard(storage, path, values, ROW_GROUP_TRS, labels)
        stimuli.append(
            Stimulus.model_validate(
                {
                    "name": stimulus,
                    "n_trs": n,
                    "silent_trs": 0,
                    "sources": {"film": source, "text": source},
                    "shards": shards,
                }
            )
        )
        for subject in subjects:
            if (subject, stimulus) in unseen:
                continue
            delayed = np.concatenate([np.zeros((3, 4)), states[:-3]])
            noise = random.normal(size=(n, n_voxels))
            bold = (1000 + 10 * (delayed @ mixing) + 5 * noise).astype(np.float32)
            path = bold_shard(subject, stimulus)
            arrays[path] = bold
            labels = {"part": "bold", "stimulus": stimulus, "subject": subject}
            scans.append(
                Scan(
                    subject=subject,
                    stimulus=stimulus,
                    nan_voxels=0,
                    constant_voxels=0,
                    source=source,
                    shard=write_shard(storage, path, bold, ROW_GROUP_TRS, labels),
                )
            )
    values = {path.partition("/")[0]: value_type(array) for path, array in arrays.items()}
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=ROW_GROUP_TRS,
        values=values,
        stimuli=tuple(stimuli),
        scans=tuple(scans),
        provenance={},
    )
    write_manifest(storage, manifest)
    return arrays


@pytest.fixture(scope="session")
def arrays_and_dataset(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, np.ndarray], Dataset]:
    """A data set of two stimuli of ragged lengths and two subjects, and what was written."""
    folder = tmp_path_factory.mktemp("data") / "small"
    arrays = write_dataset(folder, {"one": 117, "two": 83}, ("01", "02"))
    return arrays, Dataset.open(str(folder))


@pytest.fixture(scope="session")
def dataset_writer() -> Callable[..., dict[str, np.ndarray]]:
    """Give tests :func:`write_dataset`, for data sets of their own."""
    return write_dataset


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One local Ray cluster for the whole session."""
    import ray

    from giblet_ray.cluster import connect

    connect(num_cpus=4)
    yield
    ray.shutdown()
