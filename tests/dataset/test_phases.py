"""One film that two people see at other times of their TRs, beside the same as two films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalTraining

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.layout import (
    ScanKey,
    bold_labels,
    bold_shard,
    stimulus_labels,
    stimulus_shard,
)
from giblet_ray.dataset.loader import DeviceLoader, MemoryLoader
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows, StreamedRows, block_views
from giblet_ray.dataset.source import join_adjacent
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import cut_windows
from giblet_ray.dataset.writer import write_manifest, write_shard

N_TRS = {"one": 120, "two": 119}
PARTS = ("frames", "codes", "text")
LAG, CONTEXT, WINDOW = 2, 3, 7


@pytest.fixture(scope="module")
def as_films(tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable) -> tuple:
    """A data set in which 01 sees film one, and 02 film two; its arrays."""
    folder = tmp_path_factory.mktemp("films")
    unseen = (("01", "two"), ("02", "one"))
    arrays = dataset_writer(folder, N_TRS, ("01", "02"), unseen=unseen)
    return Dataset.open(str(folder)), arrays


@pytest.fixture(scope="module")
def as_phases(tmp_path_factory: pytest.TempPathFactory, as_films: tuple) -> Dataset:
    """The same numbers; film two is film one as it is seen 0.9 s later."""
    films, arrays = as_films
    storage = Storage.at(str(tmp_path_factory.mktemp("phases")))
    step = films.manifest.row_group_trs
    phases = []
    for index, (name, seconds) in enumerate({"one": 0.0, "two": 0.9}.items()):
        shards = {
            part: write_shard(
                storage,
                stimulus_shard(part, "one", index),
                arrays[stimulus_shard(part, name)],
                step,
                stimulus_labels(part, "one", index),
            )
            for part in PARTS
        }
        of_film = films.stimuli[name].phases[0]
        phases.append(of_film.model_copy(update={"seconds": seconds, "shards": shards}))
    scans = []
    for index, scan in enumerate(films.manifest.scans):
        key = ScanKey(scan.subject, "one")
        shard = write_shard(
            storage, bold_shard(*key), arrays[bold_shard(*scan.key)], step, bold_labels(key)
        )
        seen = {"stimulus": "one", "phase": index, "onset_seconds": -0.9 * index, "shard": shard}
        scans.append(scan.model_copy(update=seen))
    stimulus = films.stimuli["one"].model_copy(update={"phases": tuple(phases)})
    changed = {"stimuli": (stimulus,), "scans": tuple(scans)}
    write_manifest(storage, films.manifest.model_copy(update=changed))
    return Dataset.open(storage.location)


def test_a_data_set_with_phases_is_whole(as_phases: Dataset) -> None:
    assert not check_dataset(as_phases.storage.location).problems
    assert as_phases.usable_trs(ScanKey("02", "one")).tolist() == [True] * 119 + [False]
    spans = as_phases.row_groups()
    assert [sum(map(len, (s for s in spans if s.phase == p))) for p in (0, 1)] == [120, 120]
    joined = join_adjacent(spans, 10_000)
    assert joined == [Span("one", 0, 120), Span("one", 0, 120, 1)]


class Pieces:
    """All windows of both scans, and rows to gather them from."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.selection = Selection(PARTS, ("01", "02"))
        self.columns = self.selection.value_types(dataset)
        self.kinds = {part: self.columns[part] for part in PARTS}
        self.kinds["bold"] = self.columns["bold/01"]
        self.scans = list(dataset.scans)
        self.n_trs = dataset.bold_trs
        spans = [Span(name, 0, n) for name, n in self.n_trs.items()]
        usable = [dataset.usable_trs(scan) for scan in self.scans]
        phases = [dataset.scans[scan].phase for scan in self.scans]
        self.windows = cut_windows(spans, self.scans, WINDOW, usable, phases)

    def held(self) -> HeldRows:
        blocks = [self.dataset.read(span, self.selection) for span in self.dataset.row_groups()]
        return HeldRows(blocks, self.columns, self.scans, self.n_trs)

    def batch(self, how: str) -> dict[str, np.ndarray]:
        """Gather all windows at once."""
        device = torch.device("cpu")
        if how == "streamed":
            of = (self.dataset, self.selection, self.kinds, self.scans, WINDOW, LAG, device)
            spans = StreamLoader(*of, CONTEXT).spans(self.windows)
            rows = StreamedRows(PARTS, self.scans, LAG, CONTEXT)
            for span in dict.fromkeys(spans):
                table = self.dataset.read(span, self.selection).combine_chunks()
                rows.add(span, block_views(table.to_batches()[0], self.columns))
            n, longest = self.windows.shape
            out = {
                name: np.empty(
                    (n, longest if name == "bold" else CONTEXT + longest, *kind.shape), kind.dtype
                )
                for name, kind in self.kinds.items()
            }
            rows.gather(self.windows, spans, out)
            return out
        loader = (
            MemoryLoader(self.held(), self.kinds, LAG, device, CONTEXT)
            if how == "memory"
            else DeviceLoader(self.held(), self.kinds, self.scans, self.n_trs, LAG, device, CONTEXT)
        )
        (batch,) = loader.batches([self.windows])
        return {name: value.numpy().copy() for name, value in batch.values.items()}


@pytest.mark.parametrize("how", ["memory", "device", "streamed"])
def test_each_scan_is_given_its_film_as_it_saw_it(
    as_films: tuple, as_phases: Dataset, how: str
) -> None:
    films, phases = Pieces(as_films[0]), Pieces(as_phases)
    np.testing.assert_array_equal(films.windows.start, phases.windows.start)
    assert set(phases.windows.phase.tolist()) == {0, 1}
    expected, found = films.batch("memory"), phases.batch(how)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("model", ["ridge", "encoder"])
def test_models_learn_from_scans_of_several_phases_and_predict_them(
    as_films: tuple, as_phases: Dataset, tmp_path: Path, model: str
) -> None:
    """BOLD of 02 follows what 02 saw, and has nothing to do with the film's first phase."""
    settings: dict[str, Any] = {
        "dataset": as_phases.storage.location,
        "data": {"modalities": ("text",)},
    }
    if model == "ridge":
        settings["model"] = {"kind": "ridge", "solver": "ridge"}
    else:
        settings["train"] = {"epochs": 1}
    job = TrainJob.model_validate(settings)
    training = LocalTraining(job)
    scores = training.train(tmp_path / "run").reports[-1]
    if model == "ridge":
        assert min(scores["val/01/pearson_mean"], scores["val/02/pearson_mean"]) > 0.2
    encoder = Encoder.load(str(tmp_path / "run"))
    head = encoder.subject_index("02")
    found = encoder.predict_bold(as_phases, Span("one", 40, 60, 1), head)
    expected = encoder.predict_bold(as_films[0], Span("two", 40, 60), head)
    np.testing.assert_array_equal(found, expected)


def test_rows_of_a_phase_are_zero_past_its_end(as_films: tuple, as_phases: Dataset) -> None:
    selection = Selection(PARTS)
    later = as_phases.read(Span("one", 5, 120, 1), selection)
    other = as_films[0].read(Span("two", 5, 119), selection)
    for part in PARTS:
        kind = as_phases.value_type(part)
        rows = as_arrays(later[part].combine_chunks(), kind)
        expected = as_arrays(other[part].combine_chunks(), kind)
        np.testing.assert_array_equal(rows[:-1], expected)
        assert not rows[-1].any()
