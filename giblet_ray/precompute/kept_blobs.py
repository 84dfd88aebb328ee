"""Files beside the shards of a data set: what models need once of a part, and what is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from giblet_ray.dataset.layout import BLOBS
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage, short_sha256
from giblet_ray.dataset.stored import WrittenFile
from giblet_ray.dataset.writer import write_blob
from giblet_ray.parts.part import Part, Prepared

KeptBlobs = dict[str, dict[str, WrittenFile]]
"""Files beside the rows, by part and name."""


def keep_blobs(
    storage: Storage,
    parts: Mapping[str, Part],
    before: Manifest | None,
    prepared: Callable[[Part], Prepared],
) -> KeptBlobs:
    """Write the files that stand beside the rows of parts.

    Parameters
    ----------
    storage : Storage
        The data set's folder.
    parts : mapping of str to Part
        By name.
    before : Manifest or None
        Of the data set as it was, whose files are kept where they are whole.
    prepared : callable
        Gives what a part is made with; it may take a while.
    """
    kept: KeptBlobs = {}
    for name, part in parts.items():
        whole = {} if before is None else _whole(storage, before, name)
        kept[name] = {blob: whole[blob] for blob in part.blobs if blob in whole}
        for blob in part.blobs:
            if blob not in whole:
                content = part.blob(blob, prepared(part))
                file = f"{short_sha256(content)}-{name}-{blob}"
                kept[name][blob] = write_blob(storage, file, content)
    return kept


def _whole(storage: Storage, before: Manifest, part: str) -> dict[str, WrittenFile]:
    """Return the files of a part that are there, and what was written."""
    files = {file.path: file for file in before.blobs}
    of_part = before.parts[part].blobs if part in before.parts else {}
    return {name: files[path] for name, path in of_part.items() if _is_whole(storage, files[path])}


def blobs_are_whole(storage: Storage, manifest: Manifest) -> bool:
    """Whether every blob of a finished data set is what was written."""
    return all(_is_whole(storage, blob) for blob in manifest.blobs)


def _is_whole(storage: Storage, blob: WrittenFile) -> bool:
    return storage.size(blob.path) == blob.bytes and storage.sha256(blob.path) == blob.sha256


def delete_other_blobs(storage: Storage, kept: Iterable[WrittenFile]) -> None:
    """Delete the blobs that an interrupted run left and that are no part of the data set."""
    paths = {blob.path for blob in kept}
    for name in storage.names(BLOBS):
        if name not in paths:
            storage.delete(name)
