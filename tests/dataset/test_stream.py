"""Reading from disk as batches need it, in bounded memory, and stopping in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from giblet_ray.dataset import stream
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import Windows, cut_windows
from giblet_ray.errors import InputError

N_TRS = 640
ROW_GROUPS = 40


def in_order(dataset: Dataset, batch_size: int) -> list[Windows]:
    """Every TR of the film, from the first to the last."""
    windows = cut_windows([Span("film", 0, N_TRS)], [ScanKey("01", "film")], 1)
    return [windows[start : start + batch_size] for start in range(0, N_TRS, batch_size)]


def make_loader(dataset: Dataset) -> StreamLoader:
    selection = Selection(("codes", "text"), ("01",))
    kinds = {part: dataset.value_type(part) for part in ("codes", "text")}
    kinds["bold"] = dataset.value_type("bold/01")
    return StreamLoader(
        dataset, selection, kinds, [ScanKey("01", "film")], 1, 0, torch.device("cpu")
    )


@pytest.fixture(scope="module")
def film(
    tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable
) -> tuple[dict[str, np.ndarray], Dataset]:
    folder = tmp_path_factory.mktemp("film")
    arrays = dataset_writer(folder, {"film": N_TRS}, ("01",))
    return arrays, Dataset.open(str(folder))


def counted(dataset: Dataset, folder: Path) -> Dataset:
    """Return the data set, leaving a file in `folder` for each row group that is read."""

    class Counted(Dataset):
        def read(self, span: Span, selection: Selection) -> pa.Table:
            for start in range(span.start, span.stop, 16):
                (folder / f"{start}-{time.time_ns()}").touch()
            return super().read(span, selection)

    return Counted(dataset.storage, dataset.manifest)


def wait_until_quiet(folder: Path) -> int:
    """Return the row groups read when no more are being read."""
    before, now = -1, 0
    while before != now:
        before = now
        time.sleep(1.5)
        now = len(list(folder.iterdir()))
    return now


def test_streams_what_was_written(film: tuple) -> None:
    arrays, dataset = film
    batches = make_loader(dataset).batches(in_order(dataset, 100))
    found = np.concatenate([batch.values["bold"].numpy().copy() for batch in batches])
    np.testing.assert_array_equal(found[:, 0], arrays["bold/01/film.parquet"])


def test_bold_is_read_of_those_who_saw_the_film(tmp_path: Path, dataset_writer: Callable) -> None:
    """Of a large study, in which each subject saw some films, the rest would be null."""
    unseen = (("02", "one"), ("01", "two"))
    dataset_writer(tmp_path, {"one": 30, "two": 20}, ("01", "02"), unseen=unseen, repeats=2)
    dataset = Dataset.open(str(tmp_path))
    scans = [scan for scan in dataset.scans if scan != ScanKey("02", "two", 2)]
    selection = Selection(("text",), ("01", "02"), repeats={"01": 2, "02": 2})
    kinds = {"text": dataset.value_type("text"), "bold": dataset.value_type("bold/01")}
    loader = StreamLoader(dataset, selection, kinds, scans, 1, 0, torch.device("cpu"))
    assert loader.rows(Span("one", 0, 9)).keys() == {"text", "bold/01", "bold/01/2"}
    assert loader.rows(Span("two", 0, 9)).keys() == {"text", "bold/02"}


def test_holds_no_more_of_row_groups_than_a_span_has(film: tuple) -> None:
    _, dataset = film
    loader, span = make_loader(dataset), Span("film", 15, 33)
    before = pa.total_allocated_bytes()
    rows = loader.rows(span)
    assert {len(view) for view in rows.values()} == {18}
    assert pa.total_allocated_bytes() == before


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more row groups ahead than there are readers."""
    monkeypatch.setattr(stream, "STREAM_AHEAD_BYTES", 1)


def test_each_row_group_is_read_once(film: tuple, tmp_path: Path) -> None:
    dataset = counted(film[1], tmp_path)
    n_rows = sum(len(b.windows) for b in make_loader(dataset).batches(in_order(dataset, 33)))
    assert n_rows == N_TRS
    starts = sorted(int(path.name.partition("-")[0]) for path in tmp_path.iterdir())
    assert starts == list(range(0, N_TRS, 16))


def test_reads_a_few_row_groups_ahead_and_stops_when_closed(
    film: tuple, tmp_path: Path, little_room: None
) -> None:
    dataset = counted(film[1], tmp_path)
    batches = make_loader(dataset).batches(in_order(dataset, 4))
    next(batches)
    while_open = wait_until_quiet(tmp_path)
    assert while_open <= ROW_GROUPS / 2
    batches.close()  # type: ignore[attr-defined]
    assert wait_until_quiet(tmp_path) <= while_open
    assert not [t for t in threading.enumerate() if t.name.startswith(("batches", "stream"))]


def test_damage_met_while_streaming_reaches_the_user(film: tuple, tmp_path: Path) -> None:
    _, dataset = film
    elsewhere = Dataset(replace(dataset.storage, root=str(tmp_path)), dataset.manifest)
    with pytest.raises(InputError, match=r"codes/film.parquet: no such file") as error:
        list(make_loader(elsewhere).batches(in_order(elsewhere, 64)))
    assert "\n" not in str(error.value)


def test_empty_epoch_reads_nothing(film: tuple) -> None:
    assert list(make_loader(film[1]).batches([])) == []
