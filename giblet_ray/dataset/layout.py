"""How a data set lies on disk: its folder's layout, and the rows of its files.

::

    DATASET/
      manifest.json                        written last: without it there is no data set
      PART/STIMULUS.parquet                one row per TR of the stimulus: frames, codes, text, ...
      PART/PHASE/STIMULUS.parquet          its other phases, if scans see it at any
      bold/SUBJECT/STIMULUS.parquet        one row per TR of the scan
      bold/SUBJECT/REPEAT/STIMULUS.parquet the second time, the third, ...
      blobs/NAME                           what is needed once: a mask, names of units, a codebook

Every row holds its TR's number and one value: the bytes of a C-contiguous little-endian array,
whose dtype and shape stand in the Arrow field's metadata. Row groups begin at the same TRs in
every file of a stimulus; the manifest has a checksum of each one's content, so that a reader that
is given other numbers notices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from giblet_ray.parts.value import ValueType

MANIFEST = "manifest.json"
BLOBS = "blobs"


class ScanKey(NamedTuple):
    """One subject watching one stimulus, once."""

    subject: str
    stimulus: str
    repeat: int = 1
    """The first time, the second, ..."""

    def __str__(self) -> str:
        again = f", repeat {self.repeat}" if self.repeat > 1 else ""
        return f"sub {self.subject}, {self.stimulus}{again}"


def row_group_checksum(trs: np.ndarray, values: np.ndarray) -> str:
    """Return the xxh3_128 of a row group's content, in hexadecimal.

    Parameters
    ----------
    trs : ndarray of int32, shape (rows,)
        The column ``tr``.
    values : ndarray, shape (rows, ...)
        The arrays of the column ``value``, C-contiguous.
    """
    digest = xxhash.xxh3_128(trs.data)
    digest.update(values.data)
    return digest.hexdigest()


def shard_schema(kind: ValueType, labels: dict[str, str]) -> pa.Schema:
    """Return the columns of a shard's file, which bears what it is of as its metadata."""
    return pa.schema([pa.field("tr", pa.int32()), kind.field("value")], metadata=labels)


def stimulus_labels(part: str, stimulus: str, phase: int = 0) -> dict[str, str]:
    """Return what a stimulus's shard says that it is of."""
    labels = {"part": part, "stimulus": stimulus}
    return {**labels, "phase": str(phase)} if phase else labels


def bold_labels(scan: ScanKey) -> dict[str, str]:
    """Return what a scan's shard says that it is of."""
    labels = {"part": "bold", "stimulus": scan.stimulus, "subject": scan.subject}
    return {**labels, "repeat": str(scan.repeat)} if scan.repeat > 1 else labels


def stimulus_shard(part: str, stimulus: str, phase: int = 0) -> str:
    """Return the path of a stimulus's shard below the data set's folder."""
    folder = f"{part}/{phase}" if phase else part
    return f"{folder}/{stimulus}.parquet"


def bold_shard(subject: str, stimulus: str, repeat: int = 1) -> str:
    """Return the path of a scan's shard below the data set's folder."""
    return f"{bold_column(subject, repeat)}/{stimulus}.parquet"


def bold_column(subject: str, repeat: int = 1) -> str:
    """Return the name of a subject's BOLD column in a block: bold/SUBJECT, bold/SUBJECT/2, ..."""
    return f"bold/{subject}/{repeat}" if repeat > 1 else f"bold/{subject}"
