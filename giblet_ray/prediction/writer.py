"""The predicted response to one stimulus, written as it comes: parquet, and NIfTI given a mask.

Shapes: T rows, V voxels, XYZ the axes of a volume.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.binary import as_binary
from giblet_ray.dataset.schema import WrittenFile
from giblet_ray.dataset.storage import Storage
from giblet_ray.prediction.folder import ENDINGS, Format, Predicted, Predictions
from giblet_ray.spaces.volume import Mask

_ROW_GROUP_TRS = 64
_GZIP_LEVEL = 1
"""Noise hardly shrinks, whatever the level: the zeros outside the mask do at once."""


class StimulusWriter:
    """Writes rows in the order of their TRs; every file appears whole or not at all.

    ::

        with open_writer(storage, predictions, stimulus, mask) as writer:
            writer.add(trs_T, bold_TV)       # as often as there are blocks
        stimulus = written(storage, stimulus)
    """

    def __init__(
        self, parquet: pq.ParquetWriter, nifti: _NiftiStream | None, stimulus: Predicted
    ) -> None:
        self._parquet, self._nifti, self._stimulus = parquet, nifti, stimulus
        self._n_rows = 0

    def add(self, trs_T: np.ndarray, bold_TV: np.ndarray) -> None:
        """Append rows.

        Parameters
        ----------
        trs_T : ndarray of int
            TRs of the stimulus: those that follow the last ones.
        bold_TV : ndarray of float32
            The response to them, lag TRs later.

        Raises
        ------
        RuntimeError
            If TRs are missing, or there twice.
        """
        expected_T = np.arange(self._n_rows, self._n_rows + len(trs_T))
        if not np.array_equal(trs_T, expected_T):
            name = self._stimulus.name
            raise RuntimeError(f"{name}: TR {trs_T[0]} came where {self._n_rows} was expected")
        bold_trs = pa.array((trs_T + self._stimulus.first_bold_tr).astype(np.int32))
        columns = [bold_trs, as_binary(bold_TV.astype("<f4", copy=False))]
        rows = pa.Table.from_arrays(columns, schema=self._parquet.schema)
        self._parquet.write_table(rows, row_group_size=_ROW_GROUP_TRS)
        if self._nifti is not None:
            self._nifti.add(bold_TV)
        self._n_rows += len(bold_TV)

    def check_complete(self) -> None:
        """Raise RuntimeError unless every TR of the stimulus has its row."""
        if self._n_rows != self._stimulus.n_trs:
            name, n_trs = self._stimulus.name, self._stimulus.n_trs
            raise RuntimeError(f"{name}: {self._n_rows} of {n_trs} TRs were predicted")


@contextmanager
def open_writer(
    storage: Storage, predictions: Predictions, stimulus: Predicted, mask: Mask | None
) -> Iterator[StimulusWriter]:
    """Open the files of one stimulus.

    Parameters
    ----------
    storage : Storage
        The folder of the predictions.
    predictions : Predictions
        What all stimuli share.
    stimulus : Predicted
        Which one, and of how many TRs.
    mask : Mask or None
        Where the voxels lie; without one, there is no NIfTI file.
    """
    labels = {"part": "predicted bold", "stimulus": stimulus.name}
    fields = [pa.field("tr", pa.int32()), predictions.value.field("value")]
    with ExitStack() as opened:
        stream = opened.enter_context(storage.write(stimulus.name + ENDINGS["parquet"]))
        parquet = opened.enter_context(
            pq.ParquetWriter(
                stream,
                pa.schema(fields, metadata=labels),
                compression="none",  # as the shards of a data set are
                use_dictionary=False,
                write_statistics=["tr"],
                write_page_checksum=True,
            )
        )
        nifti = None
        if mask is not None:
            stream = opened.enter_context(storage.write(stimulus.name + ENDINGS["nifti"]))
            nifti = opened.enter_context(
                _nifti_stream(stream, mask, stimulus, predictions.tr_seconds)
            )
        writer = StimulusWriter(parquet, nifti, stimulus)
        yield writer
        writer.check_complete()


def written(storage: Storage, stimulus: Predicted) -> Predicted:
    """Return a stimulus with sizes and checksums of the files that were written of it."""
    files: dict[Format, WrittenFile] = {}
    for kind, ending in ENDINGS.items():
        path = stimulus.name + ending
        if (size := storage.size(path)) is not None:
            files[kind] = WrittenFile(path=path, bytes=size, sha256=storage.sha256(path))
    return stimulus.model_copy(update={"files": files})


class _NiftiStream:
    """Volumes of a 4-D NIfTI file, appended one by one: in it, time is the slowest axis."""

    def __init__(self, stream: gzip.GzipFile, mask: Mask) -> None:
        self._stream = stream
        # A row has the mask's voxels in C order, a volume lies in Fortran order.
        places_V = np.ravel_multi_index(np.nonzero(mask.inside), mask.inside.shape, order="F")
        self._places_V = places_V if mask.chosen is None else places_V[mask.chosen]
        self._volume_XYZ = np.zeros(mask.inside.size, "<f4")

    def add(self, bold_TV: np.ndarray) -> None:
        """Append volumes."""
        for row_V in bold_TV:
            self._volume_XYZ[self._places_V] = row_V
            self._stream.write(self._volume_XYZ.tobytes())


@contextmanager
def _nifti_stream(
    stream: IO[bytes], mask: Mask, stimulus: Predicted, tr_seconds: float
) -> Iterator[_NiftiStream]:
    # Without a time and a name in it, the same predictions are the same file.
    with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as unzipped:
        _header(mask, stimulus, tr_seconds).write_to(unzipped)
        yield _NiftiStream(unzipped, mask)


def _header(mask: Mask, stimulus: Predicted, tr_seconds: float) -> Any:
    """Return the header of the volumes of a stimulus: the mask's space, the TR, the lag."""
    shape = (*mask.inside.shape, stimulus.n_trs)
    # An array of one number, seen as often as the shape wants: it takes no memory.
    image = nibabel.Nifti1Image(np.broadcast_to(np.float32(0), shape), mask.affine)
    header: Any = image.header
    space: Any = nibabel.load(mask.file).header
    image.set_sform(mask.affine, int(space["sform_code"]) or 2)
    image.set_qform(mask.affine, int(space["qform_code"]))
    header.set_data_offset(header.single_vox_offset)
    header.set_slope_inter(1, 0)
    header.set_xyzt_units("mm", "sec")
    header.set_zooms((*header.get_zooms()[:3], tr_seconds))
    header["toffset"] = stimulus.first_bold_tr * tr_seconds
    header["descrip"] = b"predicted BOLD, z-scored"
    return header
