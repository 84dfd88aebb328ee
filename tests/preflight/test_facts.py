"""What is said of the data, and of learning one batch by heart."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.splits import SETS
from giblet_ray.dataset.windows import Windows
from giblet_ray.preflight.brief import windows_line
from giblet_ray.preflight.facts import describe_parts, describe_split
from giblet_ray.preflight.overfit import overfit
from giblet_ray.preflight.sample import SampleLoader, choose_sample
from giblet_ray.training.data import plan_data


@pytest.fixture(scope="module")
def made(arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]) -> tuple[Any, ...]:
    """A job, its data, and a sample with its rows."""
    wider = {"trunk_dims": [64, 64], "bottleneck_dim": 32, "head_dim": 64, "text_features": 32}
    job = TrainJob(
        dataset=arrays_and_dataset[1].storage.location,
        model={**tiny_model, **wider},
    )
    data = plan_data(job)
    sample = choose_sample(data, n_train=24, n_val=8, seed=0)
    return job, data, sample, sample.read(data)


def test_parts_have_the_numbers_of_the_rows_that_were_read(
    made: tuple[Any, ...], arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset]
) -> None:
    _, data, sample, tables = made
    arrays = arrays_and_dataset[0]
    normalisation = sample.normalisation(data, tables)
    said = describe_parts(data, sample, tables, normalisation)

    def rows(part: str) -> np.ndarray:
        spans = sample.spans
        read = [arrays[f"{part}/{span.stimulus}.parquet"][span.start : span.stop] for span in spans]
        return np.concatenate(read)

    frames, codes = rows("frames").astype(np.float64), rows("codes")
    assert (
        f"0 to {frames.max():.0f}, mean {frames.mean():.4g}, std {frames.std():.4g}"
        in (said["frames"])
    )
    counts = [len(np.unique(codes[:, codebook])) for codebook in range(2)]
    assert f"{min(counts):,} to {max(counts):,} of 1,024 codes" in said["codes"]
    share = np.bincount(codes[:, 0].ravel()) / codes[:, 0].size
    entropy = -sum(p * math.log2(p) for p in share if p)
    low, high = map(float, re.findall(r"entropy ([\d.]+) to ([\d.]+)", said["codes"])[0])
    assert low - 0.051 <= entropy <= high + 0.051
    assert "training TRs mean 0.00 std 1.00" in said["bold"]
    assert "0 voxels masked" in said["bold"]


def test_each_repeat_is_z_scored_by_itself(
    dataset_writer: Callable[..., Any], tmp_path: Path, tiny_model: dict[str, Any]
) -> None:
    def louder(scan: ScanKey, bold: np.ndarray) -> np.ndarray:
        return bold * scan.repeat

    dataset_writer(tmp_path / "data", {"one": 117}, ("01",), repeats=2, change_bold=louder)
    data = plan_data(TrainJob(dataset=str(tmp_path / "data"), model=tiny_model))
    sample = choose_sample(data, n_train=24, n_val=8, seed=0)
    tables = sample.read(data)
    said = describe_parts(data, sample, tables, sample.normalisation(data, tables))
    assert "training TRs mean 0.00 std 1.00" in said["bold"]


def test_split_is_told_and_drawn(made: tuple[Any, ...]) -> None:
    job, data, _, _ = made
    said = describe_split(data, job.data.split)
    n_train, n_val, n_test = (sum(map(len, data.split.spans(name))) for name in SETS)
    assert said["training"].startswith(f"{n_train:,} TRs, {len(data.train):,} windows of 1")
    assert said["validation"].startswith(f"{n_val:,} TRs")
    assert said["test"].startswith(f"{n_test:,} TRs")
    assert said["gaps"] == f"{117 + 83 - n_train - n_val - n_test} TRs, 20 s between two sets"
    assert said["smallest p"].startswith("none: a film has 14 test TRs, fewer than the 28")
    assert re.fullmatch("━+·+▒+·+█+", said["one"])


def test_context_is_told_with_what_it_costs(made: tuple[Any, ...]) -> None:
    job, data, _, _ = made
    assert windows_line(data) == f"{data.train.n_trs:,} windows of 1 TR"
    ridge = TrainJob(dataset=job.dataset, model={"kind": "ridge"}, data={"lag_seconds": 0})
    seen = plan_data(ridge)
    said = describe_split(seen, ridge.data.split)["trained on"]
    _, exists = seen.train.rows(0, 8)
    n_rows, n_context = exists.sum(), exists[:, :8].sum()
    assert said == (
        f"{len(seen.train)} windows of up to {seen.window} TRs and 8 (12 s) of context, "
        f"{n_context / n_rows:.0%} of the stimulus rows"
    )


class WithoutPictures:
    """A loader whose frames are all black."""

    seconds_waited = 0.0

    def __init__(self, loader: SampleLoader) -> None:
        self._loader = loader

    def batches(self, order: Sequence[Windows]) -> Iterator[Batch]:
        for batch in self._loader.batches(order):
            batch.values["frames"].zero_()
            yield batch


def test_batch_is_learned_by_heart_and_dead_inputs_are_named(made: tuple[Any, ...]) -> None:
    job, data, sample, tables = made
    columns = sample.selection.value_types(data.dataset)
    how = (data.values, data.scans, columns, data.lag_trs, data.context_trs)
    loader = SampleLoader(sample, tables, *how)
    normalisation = sample.normalisation(data, tables)
    learned = overfit(job, data, loader, sample.train, normalisation, seconds=300)
    assert learned.learned
    assert re.match(r"yes: loss [12]\.\d+ -> 0\.", str(learned))
    masked = normalisation.valid_SV.copy()
    masked[:, :3] = False
    failed = overfit(
        job,
        data,
        WithoutPictures(loader),
        sample.train,
        replace(normalisation, valid_SV=masked, n_masked=6),
    )
    assert failed.suspects == (
        "frames is the same in every row of the batch",
        "6 of 48 voxels of 2 subjects are constant: masked",
    )
    assert "frames is the same" in str(replace(failed, last=failed.first, steps=100))
    assert str(replace(failed, last=failed.first, steps=3)).startswith("not yet: ")
