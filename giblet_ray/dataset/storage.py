"""Files below one root, on a local path or any URI that pyarrow or fsspec understands."""

from __future__ import annotations

import hashlib
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import fsspec
import pyarrow as pa
from pyarrow import fs as pafs

from giblet_ray.errors import InputError

_HASH_BLOCK_BYTES = 4 * 2**20
_COPY_BYTES = 4 * 2**20


def is_uri(location: str) -> bool:
    """Tell a URI (``s3://...``) from a path."""
    return "://" in location


def absolute(location: str) -> str:
    """Return `location` in a form that means the same in every process: a path made absolute."""
    return location if is_uri(location) else str(Path(location).expanduser().resolve())


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
            filesystem, root = pafs.FileSystem.from_uri(location)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            try:
                handler, root = fsspec.core.url_to_fs(location)
            except (ValueError, ImportError) as error:
                raise InputError(f"{location}: no file system for this URI: {error}") from error
            filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(handler))
        return cls(location, filesystem, root)

    def path(self, name: str) -> str:
        """Return the file system's path of the file `name`."""
        return posixpath.join(self.root, name)

    def describe(self, name: str) -> str:
        """Return the file's full location, for messages."""
        return posixpath.join(self.location, name)

    def size(self, name: str) -> int | None:
        """Return the size of a file (bytes), or None where there is none."""
        info = self.filesystem.get_file_info(self.path(name))
        return info.size if info.type == pafs.FileType.File else None

    def names(self, folder: str = "") -> list[str]:
        """Return every file below a folder, sorted."""
        selector = pafs.FileSelector(self.path(folder), recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        root = self.root.rstrip("/") + "/"
        return sorted(
            info.path.removeprefix(root) for info in infos if info.type == pafs.FileType.File
        )

    def read(self, name: str) -> bytes:
        """Return a whole small file; FileNotFoundError where there is none."""
        with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
            return stream.read()

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for random access."""
        return self.filesystem.open_input_file(self.path(name))

    def fetch(self, folder: str) -> Path:
        """Return a local folder with the files of `folder`: itself, or a temporary copy."""
        if isinstance(self.filesystem, pafs.LocalFileSystem):
            return Path(self.path(folder))
        copy = Path(tempfile.mkdtemp(prefix="giblet_ray-"))
        pafs.copy_files(self.path(folder), str(copy), self.filesystem, pafs.LocalFileSystem())
        return copy

    def store(self, source: Path, folder: str, last: str) -> None:
        """Copy the files of a local folder to `folder`; the one named `last` after all others."""
        names = sorted((path.name for path in source.iterdir()), key=lambda name: name == last)
        for name in names:
            with (source / name).open("rb") as content, self.write(f"{folder}/{name}") as stream:
                shutil.copyfileobj(content, stream, _COPY_BYTES)

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        if self.size(name) is not None:
            self.filesystem.delete_file(self.path(name))

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all in it."""
        self.filesystem.delete_dir(self.path(folder))

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file's content, in hexadecimal."""
        with self.filesystem.open_input_stream(self.path(name), compression=None) as stream:
            return sha256_of_stream(stream)

    @contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file that appears whole or not at all.

        A local file is written under another name and renamed; an object store shows an object
        when its upload is complete.
        """
        final = self.path(name)
        self.filesystem.create_dir(posixpath.dirname(final), recursive=True)
        renames = isinstance(self.filesystem, pafs.LocalFileSystem)
        target = f"{final}.{uuid.uuid4().hex[:8]}.part" if renames else final
        try:
            with self.filesystem.open_output_stream(target, compression=None) as stream:
                yield stream
            if renames:
                self.filesystem.move(target, final)
        except BaseException:
            if renames and self.filesystem.get_file_info(target).type == pafs.FileType.File:
                self.filesystem.delete_file(target)
            raise


def sha256_of_stream(stream: IO[bytes] | pa.NativeFile) -> str:
    """Return the SHA-256 of what is left in a binary stream, in hexadecimal."""
    digest = hashlib.sha256()
    while block := stream.read(_HASH_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a local file's content, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return sha256_of_stream(stream)
