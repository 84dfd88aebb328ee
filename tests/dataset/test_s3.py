"""A data set on S3: read, trained on, and what happens when S3 fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from faulty_proxy import FaultyProxy

from giblet_ray.config import TrainJob
from giblet_ray.dataset import retry
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.retry import StorageError
from giblet_ray.dataset.source import hold_shards
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stream import StreamLoader
from giblet_ray.dataset.windows import cut_windows
from giblet_ray.errors import InputError

SELECTION = Selection(("codes",), ("01", "02"))


@pytest.fixture(scope="module")
def remote(s3: FaultyProxy, arrays_and_dataset: tuple) -> Dataset:
    """The small data set, uploaded."""
    storage = Storage.at("s3://lab/small")
    local = arrays_and_dataset[1].storage
    for name in local.names():
        with storage.write(name) as stream:
            stream.write(local.read(name))
    return Dataset.open("s3://lab/small")


@pytest.fixture
def small_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)


def check_read(dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
    table = dataset.read(Span("one", 10, 40), SELECTION)
    found = as_arrays(table["codes"].combine_chunks(), dataset.value_type("codes"))
    np.testing.assert_array_equal(found, arrays["codes/one.parquet"][10:40])


def test_files_come_back_and_go(s3: FaultyProxy, tmp_path: Path) -> None:
    storage = Storage.at("s3://lab/files")
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 11_000_000)  # more than one part of an upload
    storage.store(tmp_path, "folder", last="a")
    assert storage.names() == ["folder/a", "folder/b"]
    assert storage.size("folder/b") == 11_000_000
    with storage.fetch("folder", ("b", "none")) as fetched:
        assert [path.name for path in fetched.iterdir()] == ["b"]
        assert (fetched / "b").read_bytes() == (tmp_path / "b").read_bytes()
    assert not fetched.exists()
    storage.delete("folder/a")
    storage.delete("folder/a")
    assert storage.names("folder") == ["folder/b"]
    storage.delete_folder("folder")
    assert storage.names() == []
    with pytest.raises(FileNotFoundError):
        storage.read("folder/b")


def test_data_set_is_whole_and_trains(
    remote: Dataset,
    arrays_and_dataset: tuple,
    tiny_model: dict[str, Any],
    train_locally: Callable,
    tmp_path: Path,
) -> None:
    arrays, local = arrays_and_dataset
    assert remote.manifest.checksum == local.manifest.checksum
    assert check_dataset("s3://lab/small").problems == ()
    check_read(remote, arrays)
    settings = {
        "model": tiny_model,
        "train": {"epochs": 1, "batch_trs": 16},
    }
    scores = []
    for name, dataset in {"remote": remote, "local": local}.items():
        job = TrainJob(dataset=dataset.storage.location, **settings)
        (metrics,) = train_locally(job, tmp_path / name).reports
        scores.append(metrics["val/pearson_mean"])
    assert scores[0] == scores[1]


def test_read_tasks_and_streams_read_it(
    cluster: None, remote: Dataset, arrays_and_dataset: tuple
) -> None:
    arrays, _ = arrays_and_dataset
    blocks = ray.get(hold_shards(remote, SELECTION).to_arrow_refs())
    assert sum(map(len, blocks)) == 200
    scans = [ScanKey("02", "one")]
    kinds = {"codes": remote.value_type("codes"), "bold": remote.value_type("bold/02")}
    loader = StreamLoader(remote, SELECTION, kinds, scans, 1, 0, torch.device("cpu"))
    windows = cut_windows([Span("one", 0, 117)], scans, 1)
    (batch,) = loader.batches([windows])
    expected = arrays["bold/02/one.parquet"]
    np.testing.assert_array_equal(batch.values["bold"][:, 0].numpy(), expected)
    assert bold_column("02") in blocks[0].column_names


@pytest.mark.parametrize("fault", ["500", "503", "cut", "truncate"])
def test_errors_that_pass_are_survived(
    s3: FaultyProxy, remote: Dataset, arrays_and_dataset: tuple, small_pauses: None, fault: Any
) -> None:
    with s3.failing(fault, times=4, matching="GET /lab/small/codes"):
        check_read(remote, arrays_and_dataset[0])
    storage = Storage.at("s3://lab/files")
    with s3.failing(fault, times=4, matching="/lab/files/written"), storage.write("written") as f:
        f.write(b"content")
    assert storage.read("written") == b"content"


def test_reading_is_given_up_in_one_line(
    s3: FaultyProxy, remote: Dataset, small_pauses: None
) -> None:
    before = len(s3.requests)
    message = r"^s3://lab/small/codes/one.parquet: .*given up after 4 tries: start again when"
    with (
        s3.failing("503", matching="/lab/small/codes"),
        pytest.raises(StorageError, match=message) as error,
    ):
        remote.read(Span("one", 0, 117), SELECTION)
    assert "\n" not in str(error.value)
    assert len(s3.requests) - before == 12  # three by pyarrow, four times


def test_read_task_gives_up_as_soon(cluster: None, s3: FaultyProxy, remote: Dataset) -> None:
    before = len(s3.requests)
    with (
        s3.failing("cut", matching="/lab/small/codes/two"),
        pytest.raises(InputError, match=r"^s3://lab/small/codes/two.*: .*given up") as error,
    ):
        hold_shards(remote, Selection(("codes",)))
    assert "\n" not in str(error.value)
    tried = [request for request in s3.requests[before:] if "codes/two" in request]
    assert len(tried) <= 3 * 16


def test_object_that_another_replaced_is_noticed(remote: Dataset) -> None:
    storage = remote.storage
    content = storage.read("codes/two.parquet")
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    try:
        with storage.write("codes/two.parquet") as stream:
            stream.write(damaged)
        with pytest.raises(InputError, match=r"codes/two.parquet: changed since .*, or damaged"):
            remote.read(Span("two", 0, 83), SELECTION)
    finally:
        with storage.write("codes/two.parquet") as stream:
            stream.write(content)


@pytest.mark.parametrize("fault", ["500", "cut"])
def test_upload_that_fails_midway_leaves_what_was_there(
    s3: FaultyProxy, small_pauses: None, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(retry, "ATTEMPTS", 2)  # of 2 s each
    storage = Storage.at("s3://lab/uploads")
    with storage.write("kept") as stream:
        stream.write(b"before")

    def write(name: str) -> None:
        with storage.write(name) as stream:
            stream.write(bytes(11_000_000))  # two parts of an upload

    with s3.failing(fault, matching="partNumber=2"):
        for name in ("kept", "new"):
            with pytest.raises(StorageError, match=rf"^s3://lab/uploads/{name}: .*given up"):
                write(name)
    assert storage.names() == ["kept"]
    assert storage.read("kept") == b"before"


def test_interrupted_writer_leaves_no_object(s3: FaultyProxy) -> None:
    storage = Storage.at("s3://lab/interrupted")

    def write_half() -> None:
        with storage.write("half") as stream:
            stream.write(bytes(11_000_000))
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_half()
    assert storage.names() == []


def test_bucket_that_is_not_there_is_told(s3: FaultyProxy) -> None:
    with (
        pytest.raises(StorageError, match=r"^s3://nobody/file: Bucket 'nobody' not found"),
        Storage.at("s3://nobody").write("file") as stream,
    ):
        stream.write(b"content")
