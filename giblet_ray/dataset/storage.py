"""Files below one root, on a local path or any URI that pyarrow or fsspec understands."""

from __future__ import annotations

import copy
import errno
import hashlib
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

from giblet_ray.dataset.retry import StorageError, is_of_storage, raise_told, retried
from giblet_ray.errors import InputError, one_line

_T = TypeVar("_T")
_FULL = (errno.ENOSPC, errno.EDQUOT)
PART_SUFFIX = ".part"
"""Of a file on a local disk that is not whole yet, or whose writer was killed."""
_HASH_BLOCK_BYTES = 4 * 2**20
_COPY_BYTES = 4 * 2**20


def is_uri(location: str) -> bool:
    """Tell a URI (``s3://...``) from a path."""
    return "://" in location


def absolute(location: str) -> str:
    """Return `location` in a form that means the same in every process: a path made absolute."""
    return location if is_uri(location) else str(Path(location).expanduser().resolve())


def absolute_file(location: str) -> str:
    """Return a source file's path made absolute; the file keeps its name where it is a link.

    What git-annex and DataLad get are links to files that are named by their content: a link's name
    tells what a scan is, and which files belong to it.
    """
    if is_uri(location):
        return location
    path = Path(location).expanduser()
    return str(path.parent.resolve() / path.name)


@dataclass(frozen=True)
class Storage:
    """A root folder on some file system; every path below is relative to it.

    Bytes are read and written as they are: pyarrow, left to itself, would (un)pack a file whose
    name ends in .gz. Pickles, so that a read task can carry it.
    """

    location: str
    filesystem: pafs.FileSystem
    root: str

    @classmethod
    def at(cls, location: str) -> Storage:
        """Open the folder at a path or URI.

        Raises
        ------
        InputError
            If no file system is known for the URI's scheme.
        """
        location = absolute(location)
        if not is_uri(location):
            return cls(location, pafs.LocalFileSystem(), location)
        try:
            made, root = retried(lambda: pafs.FileSystem.from_uri(location), location)
            # S3 of a URI repeats a request that is not answered for 99 s. Its copy is made by the
            # constructor, as in every process that it is sent to, and gives up after 10 s.
            filesystem = copy.copy(made)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as refused:
            # A scheme that pyarrow has no file system for: one of fsspec's.
            try:
                handler, root = fsspec.core.url_to_fs(location)
            except (ValueError, ImportError) as error:
                raise InputError(
                    f"{location}: no file system for this URI: {one_line(refused)}; "
                    f"{one_line(error)}"
                ) from error
            filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(handler))
        return cls(location, filesystem, root)

    def path(self, name: str) -> str:
        """Return the file system's path of the file `name`."""
        return posixpath.join(self.root, name)

    def describe(self, name: str) -> str:
        """Return the file's full location, for messages."""
        return posixpath.join(self.location, name)

    @property
    def is_local(self) -> bool:
        """Whether the files lie in a folder of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def size(self, name: str) -> int | None:
        """Return the size of a file (bytes), or None where there is none."""
        path = self.path(name)
        info = retried(lambda: self.filesystem.get_file_info(path), self.describe(name))
        return info.size if info.type == pafs.FileType.File else None

    def is_file(self) -> bool:
        """Tell whether the root is a file, and thus no folder."""
        info = retried(lambda: self.filesystem.get_file_info(self.root), self.location)
        return info.type == pafs.FileType.File

    def entries(self) -> set[str]:
        """Return the names of the files and folders in the root."""
        selector = pafs.FileSelector(self.root, allow_not_found=True)
        infos = retried(lambda: self.filesystem.get_file_info(selector), self.location)
        return {info.base_name for info in infos}

    def names(self, folder: str = "") -> list[str]:
        """Return every file below a folder, sorted."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the size of every file below a folder (bytes).

        An object store lists 1,000 files in the time in which it tells the size of one.
        """
        selector = pafs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        infos = retried(lambda: self.filesystem.get_file_info(selector), self.describe(folder))
        root = self.root.rstrip("/") + "/"
        return {
            info.path.removeprefix(root): info.size
            for info in infos
            if info.type == pafs.FileType.File
        }

    def read(self, name: str) -> bytes:
        """Return a whole small file; FileNotFoundError where there is none."""
        return self._streamed(name, lambda stream: stream.read())

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file's content, in hexadecimal."""
        return self._streamed(name, sha256_of_stream)

    def _streamed(self, name: str, take: Callable[[pa.NativeFile], _T]) -> _T:
        def work() -> _T:
            with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
                return take(stream)

        return retried(work, self.describe(name))

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for random access; who reads from it tries again, if at all."""
        return self.filesystem.open_input_file(self.path(name))

    @contextmanager
    def fetch(self, folder: str, names: Iterable[str]) -> Iterator[Path]:
        """Give a local folder with some files of `folder` while the block runs.

        It is the folder itself, or a temporary one with copies of those that are there.
        """
        if self.is_local:
            yield Path(self.path(folder))
            return
        here = pafs.LocalFileSystem()
        with tempfile.TemporaryDirectory(prefix="giblet_ray-") as fetched:
            for name in names:
                source, to = posixpath.join(folder, name), f"{fetched}/{name}"
                if self.size(source) is not None:
                    work = partial(pafs.copy_files, self.path(source), to, self.filesystem, here)
                    retried(work, self.describe(source))
            yield Path(fetched)

    def store(self, source: Path, folder: str, last: str) -> None:
        """Copy the files of a local folder to `folder`; the one named `last` after all others."""
        for path in sorted(source.iterdir(), key=lambda path: (path.name == last, path.name)):
            name = posixpath.join(folder, path.name)
            if not self.is_local:
                self._upload(path, name)
                continue
            with path.open("rb") as content, self.write(name) as stream:
                shutil.copyfileobj(content, stream, _COPY_BYTES)

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        # A try that failed may have deleted it.
        with suppress(FileNotFoundError):
            if self.size(name) is not None:
                retried(lambda: self.filesystem.delete_file(self.path(name)), self.describe(name))

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all in it."""
        retried(lambda: self.filesystem.delete_dir(self.path(folder)), self.describe(folder))

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file that appears whole or not at all.

        It is written to a disk of this machine under another name: beside its place, or, if that
        is elsewhere, in the temporary folder. For a stream to an object store makes an object of
        what it was given also when it is closed by an error midway.

        Raises
        ------
        StorageError
            If the disk is full, or the storage refuses, or does not answer.
        """
        final = Path(self.path(name))
        folder = final.parent if self.is_local else Path(tempfile.gettempdir())
        part = folder / f"{final.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}"
        n_written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as stream:
                    yield stream
                    # A disk on a network may tell only now that it is full.
                    stream.flush()
                    os.fsync(stream.fileno())
                if self.is_local:
                    part.replace(final)
                else:
                    self._upload(part, name)
            finally:
                n_written = part.stat().st_size if part.exists() else 0
                part.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageError(
                    f"{self.describe(name)}: no space left in {folder}: it needs more than the "
                    f"{n_written:,} bytes that could be written, {shutil.disk_usage(folder).free:,}"
                    " are free; make room and start again"
                ) from error
            # What the caller does meanwhile may fail for another reason.
            if not is_of_storage(error):
                raise
            raise_told(error, self.describe(name))

    def _upload(self, source: Path, name: str) -> None:
        final = self.path(name)

        def work() -> None:
            self.filesystem.create_dir(posixpath.dirname(final), recursive=True)
            with (
                source.open("rb") as content,
                self.filesystem.open_output_stream(final, compression=None) as stream,
            ):
                shutil.copyfileobj(content, stream, _COPY_BYTES)

        retried(work, self.describe(name))


def sha256_of_stream(stream: IO[bytes] | pa.NativeFile) -> str:
    """Return the SHA-256 of what is left in a binary stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def short_sha256(content: bytes) -> str:
    """Return what tells a content from others in a name: 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:12]


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a local file's content, in hexadecimal.

    Raises
    ------
    StorageError
        If it may not be read, or the disk that it is on does not answer.
    """

    def work() -> str:
        with Path(path).open("rb") as stream:
            return sha256_of_stream(stream)

    return retried(work, str(path))
