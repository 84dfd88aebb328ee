"""The predicted response to one stimulus, written as it comes: parquet, and files like a scan.

Shapes: T rows, V units that are predicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from giblet_ray.dataset.binary import as_binary
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import WrittenFile
from giblet_ray.prediction.folder import Format, Predicted, Predictions
from giblet_ray.spaces.space import RowsFile, Series, Space

_ROW_GROUP_TRS = 64
_WHAT = "predicted BOLD, z-scored"


class StimulusWriter:
    """Writes rows in the order of their TRs; every file appears whole or not at all.

    ::

        with open_writer(storage, predictions, stimulus, space, units) as writer:
            writer.add(trs_T, bold_TV)       # as often as there are blocks
        stimulus = written(storage, predictions, stimulus)
    """

    def __init__(
        self,
        parquet: pq.ParquetWriter,
        file: RowsFile,
        stimulus: Predicted,
        n_units: int,
        units: np.ndarray | None,
    ) -> None:
        self._parquet, self._file, self._stimulus = parquet, file, stimulus
        self._n_units, self._units = n_units, units

    def add(self, trs_T: np.ndarray, bold_TV: np.ndarray) -> None:
        """Append rows.

        Parameters
        ----------
        trs_T : ndarray of int
            TRs of the stimulus: those that follow the last ones.
        bold_TV : ndarray of float32
            The response to them, lag TRs later.
        """
        bold_trs = pa.array((trs_T + self._stimulus.first_bold_tr).astype(np.int32))
        columns = [bold_trs, as_binary(bold_TV.astype("<f4", copy=False))]
        rows = pa.Table.from_arrays(columns, schema=self._parquet.schema)
        self._parquet.write_table(rows, row_group_size=_ROW_GROUP_TRS)
        if self._units is None:
            self._file.add(bold_TV)
        else:
            all_TV = np.full((len(bold_TV), self._n_units), np.nan, np.float32)
            all_TV[:, self._units] = bold_TV
            self._file.add(all_TV)


@contextmanager
def open_writer(
    storage: Storage,
    predictions: Predictions,
    stimulus: Predicted,
    space: Space,
    units: np.ndarray | None,
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
    space, units
        As a :class:`giblet_ray.prediction.task.Task` has them.
    """
    labels = {"part": "predicted bold", "stimulus": stimulus.name}
    fields = [pa.field("tr", pa.int32()), predictions.value.field("value")]
    with ExitStack() as opened:
        (ending,) = predictions.endings["rows"]
        stream = opened.enter_context(storage.write(stimulus.name + ending))
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
        streams = [
            opened.enter_context(storage.write(stimulus.name + ending)) for ending in space.endings
        ]
        first_seconds = stimulus.phase_seconds + stimulus.first_bold_tr * predictions.tr_seconds
        series = Series(stimulus.n_trs, predictions.tr_seconds, first_seconds, _WHAT)
        file = opened.enter_context(space.open_files(streams, series))
        yield StimulusWriter(parquet, file, stimulus, space.n_units, units)


def written(storage: Storage, predictions: Predictions, stimulus: Predicted) -> Predicted:
    """Return a stimulus with sizes and checksums of the files that were written of it."""
    files: dict[Format, tuple[WrittenFile, ...]] = {}
    for kind, endings in predictions.endings.items():
        paths = [stimulus.name + ending for ending in endings]
        sizes = {path: size for path in paths if (size := storage.size(path)) is not None}
        if sizes:
            files[kind] = tuple(
                WrittenFile(path=path, bytes=size, sha256=storage.sha256(path))
                for path, size in sizes.items()
            )
    return stimulus.model_copy(update={"files": files})
