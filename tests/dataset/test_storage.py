"""Files below a root: the bytes that were written, whatever they are called."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from giblet_ray.dataset import retry
from giblet_ray.dataset.retry import StorageError, retried
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_shard
from giblet_ray.errors import InputError


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_bytes_of_a_packed_file_are_not_touched(scheme: str, tmp_path: Path) -> None:
    storage = Storage.at(f"{scheme}{tmp_path}")
    content = gzip.compress(b"volumes" * 100)
    with storage.write("run/scan.nii.gz") as stream:
        stream.write(content)
    assert storage.read("run/scan.nii.gz") == content
    assert storage.size("run/scan.nii.gz") == len(content)
    assert storage.sha256("run/scan.nii.gz") == hashlib.sha256(content).hexdigest()
    assert storage.names() == ["run/scan.nii.gz"]


# --- storage that fails ---------------------------------------------------------------------


@pytest.fixture
def small_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)


def failing(n_times: int, error: OSError) -> Callable[[], str]:
    """Make something that fails a few times before it gives an answer."""
    errors = [error] * n_times

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    return work


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        ConnectionResetError("reset"),
        TimeoutError("timed out"),
        OSError("AWS Error SLOW_DOWN during GetObject operation: please"),
        OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No body."),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again_and_said(
    small_pauses: None, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    assert retried(failing(retry.ATTEMPTS - 1, error), "s3://lab/file") == "done"
    assert [r.getMessage().count("s3://lab/file: ") for r in caplog.records] == [1, 1, 1]
    with pytest.raises(StorageError, match=r"^s3://lab/file: .*given up after 4 tries") as raised:
        retried(failing(retry.ATTEMPTS, error), "s3://lab/file")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, InputError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), StorageError),
        (OSError(errno.EROFS, "Read-only file system"), StorageError),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation:\nno"), StorageError),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"), StorageError),
        (FileNotFoundError(errno.ENOENT, "No such file"), FileNotFoundError),
    ],
    ids=str,
)
def test_what_stays_is_not_tried_again(error: OSError, kind: type[OSError]) -> None:
    with pytest.raises(kind) as raised:
        retried(failing(1, error), "s3://lab/file")
    assert type(raised.value) is kind
    if kind is StorageError:
        assert str(raised.value).startswith("s3://lab/file: ")
        assert "\n" not in str(raised.value)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk takes root's rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("way", ["bytes", "shard"])
def test_full_disk_is_told_and_leaves_what_was_there(full_disk: Path, way: str) -> None:
    storage = Storage.at(str(full_disk))
    with storage.write("text/film.parquet") as stream:
        stream.write(b"before")

    def write_too_much() -> None:
        if way == "shard":
            write_shard(storage, "text/film.parquet", np.ones((600, 1024), np.float32), 64, {})
        with storage.write("text/film.parquet") as stream:
            for _ in range(3):
                stream.write(bytes(2**20))

    message = (
        rf"^{full_disk}/text/film.parquet: no space left in {full_disk}/text: it needs more than "
        r"the [12],\d{3},\d{3} bytes that could be written, 2,0\d\d,\d{3} are free; make room"
    )
    with pytest.raises(StorageError, match=message):
        write_too_much()
    assert storage.names() == ["text/film.parquet"]
    assert storage.read("text/film.parquet") == b"before"


def test_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = Storage.at(str(tmp_path))
    with (
        pytest.raises(StorageError, match=rf"^{tmp_path}/file/below: .*"),
        storage.write("file/below"),
    ):
        pass
