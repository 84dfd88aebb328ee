"""Vertices of the cortex, from a GIFTI file of each hemisphere, and back.

::

    sub-01_hemi-L_bold.func.gii  (vertices,) per TR \\
                                                     > (TRs, units): the left vertices, the right
    sub-01_hemi-R_bold.func.gii  (vertices,) per TR /

A scan is named by either of its files; the other has the same name but for the side.

T is the number of TRs, V of units, N of vertices of a hemisphere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError, one_line
from giblet_ray.spaces.labels import Labels, whole_numbers
from giblet_ray.spaces.space import SIDES, RowsFile, Series, Space

_VERTICES = "surface.json"
_TR_TOLERANCE_SECONDS = 1e-3
_TIME_SERIES = "NIFTI_INTENT_TIME_SERIES"
_TIME_STEP = "TimeStep"
_STRUCTURE = "AnatomicalStructurePrimary"
_STRUCTURES = {"left": "CortexLeft", "right": "CortexRight"}

_SIDES_IN_NAMES = tuple(
    (re.compile(rf"{before}(?:{left}|{right}){after}"), {"left": left, "right": right})
    for before, left, right, after in (
        ("(?<=hemi-)", "L", "R", "(?![A-Za-z0-9])"),  # BIDS
        (r"(?<=\.)", "L", "R", r"(?=\.)"),  # HCP
        (r"(?<![A-Za-z0-9])", "lh", "rh", r"(?=[._])"),  # FreeSurfer
    )
)
"""How names tell a side."""

_XML_BYTES = 2048
"""Most that stands around the numbers of a TR."""


class Surface(Space):
    """The vertices of the left, then of the right hemisphere, the medial wall included.

    Scans are pairs of GIFTI files. Vertices without a number, as those of the medial wall, are NaN.

    Parameters
    ----------
    n_vertices : mapping of str to int
        N by side.
    """

    kind = "surface"
    endings = ("_hemi-L.func.gii", "_hemi-R.func.gii")
    suffixes = (".func.gii", ".gii")
    label_suffixes = (".label.gii",)

    def __init__(self, n_vertices: Mapping[str, int]) -> None:
        self.n_vertices = {side: n_vertices[side] for side in SIDES}
        self.n_units = sum(self.n_vertices.values())

    @classmethod
    def of_scan(cls, file: Path, part: str | None) -> Self:
        """Return the space of the vertices of both hemispheres."""
        return cls({side: rows_TN.shape[1] for side, (_, rows_TN) in _both(file).items()})

    @classmethod
    def files_of(cls, file: Path) -> tuple[Path, ...]:
        """Return the files of the left and of the right hemisphere."""
        for pattern, names in _SIDES_IN_NAMES:
            found = [*pattern.finditer(file.name)]
            if not found:
                continue
            start, stop = found[-1].span()
            pair = [
                file.with_name(file.name[:start] + names[side] + file.name[stop:]) for side in SIDES
            ]
            for other in pair:
                if not other.is_file():
                    raise InputError(f"{file}: its other hemisphere, {other}, is not there")
            return tuple(pair)
        raise InputError(
            f"{file}: its name tells no hemisphere; a pair of files named hemi-L and hemi-R, .L. "
            "and .R., or lh. and rh. is accepted"
        )

    @classmethod
    def of_labels(cls, file: Path) -> Self:
        """Return the space of all vertices of a pair of label images."""
        return cls({side: len(values_N) for side, (values_N, _) in _label_pair(file).items()})

    def labels(self, file: Path) -> Labels:
        """See :meth:`Space.labels`.

        Where both hemispheres use the same number, it means a region of each: those of the right
        are numbered after those of the left, and both are named by their side, as in "L V1".
        """
        (left_N, left), (right_N, right) = _label_pair(file).values()
        for side, values_N in zip(SIDES, (left_N, right_N), strict=True):
            if len(values_N) != self.n_vertices[side]:
                raise InputError(
                    f"{file}: has {len(values_N)} vertices in the {side} hemisphere, where the "
                    f"scans have {self.n_vertices[side]}"
                )
        numbers_V = whole_numbers(np.concatenate([left_N, right_N]), file)
        left_N, right_N = np.split(numbers_V, [len(left_N)])
        if np.intersect1d(left_N[left_N > 0], right_N).size:
            shift = max(int(left_N.max()), *left, 0)
            right_N = np.where(right_N > 0, right_N + shift, 0)
            left = {number: f"L {name}" for number, name in left.items()}
            right = {number + shift: f"R {name}" for number, name in right.items()}
        numbers_V = np.concatenate([left_N, right_N])
        names = {int(number): str(number) for number in np.unique(numbers_V)} | left | right
        return Labels(numbers_V, {n: name for n, name in sorted(names.items()) if n > 0})

    def files(self) -> dict[str, bytes]:
        return {_VERTICES: json.dumps({"vertices": self.n_vertices}).encode()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], n_units: int, where: str) -> Self:
        try:
            counts = json.loads(files[_VERTICES])["vertices"]
            space = cls({side: int(counts[side]) for side in SIDES})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: its {_VERTICES} cannot be read: {one_line(error)}"
            ) from error
        if space.n_units != n_units:
            raise InputError(f"{where}: its cortex has {space.n_units} vertices, not {n_units}")
        return space

    def n_trs(self, file: Path, part: str | None, tr_seconds: float | None) -> int:
        hemispheres = _both(file)
        for side, (image, rows_TN) in hemispheres.items():
            if rows_TN.shape[1] != self.n_vertices[side]:
                raise InputError(
                    f"{file}: has {rows_TN.shape[1]} vertices in the {side} hemisphere, where "
                    f"{self.n_vertices[side]} are expected"
                )
            if tr_seconds is not None:
                _check_tr(image, file, tr_seconds)
        return len(hemispheres["left"][1])

    def read(
        self, file: Path, part: str | None, trs: slice, smoothing_fwhm_mm: float | None
    ) -> NDArray[np.float32]:
        rows = [rows_TN[trs] for _, rows_TN in _both(file).values()]
        return np.concatenate(rows, axis=1, dtype=np.float32)

    @contextmanager
    def open_files(self, streams: Sequence[IO[bytes]], series: Series) -> Iterator[RowsFile]:
        from nibabel.gifti import GiftiImage, GiftiMetaData

        ends = []
        for stream, side in zip(streams, SIDES, strict=True):
            about = {_STRUCTURE: _STRUCTURES[side], "Description": series.what}
            about["FirstSeconds"] = f"{series.first_seconds:g}"
            xml = GiftiImage(meta=GiftiMetaData(about)).to_xml()
            xml = xml.replace(b'NumberOfDataArrays="0"', b'NumberOfDataArrays="%d"' % series.n_trs)
            head, end = xml[: xml.rindex(b"</")], xml[xml.rindex(b"</") :]
            stream.write(head)
            ends.append(end)
        yield _Vertices(streams, self.n_vertices["left"], series.tr_seconds)
        for stream, end in zip(streams, ends, strict=True):
            stream.write(end)

    def surface(self, values_V: NDArray[Any]) -> dict[str, NDArray[np.float32]] | None:
        values = np.split(np.asarray(values_V, np.float32), [self.n_vertices["left"]])
        return dict(zip(SIDES, values, strict=True))

    def file_bytes(self, n_trs: int) -> int:
        # In base64, 3 bytes are 4 letters; what does not shrink grows by less than 1 % when packed.
        return (n_trs + 2) * (6 * self.n_units + 2 * _XML_BYTES)


class _Vertices:
    """A data array per TR in the file of each hemisphere."""

    def __init__(self, streams: Sequence[IO[bytes]], n_left: int, tr_seconds: float) -> None:
        self._streams, self._n_left = streams, n_left
        # In ms, as FreeSurfer writes it.
        self._about = {_TIME_STEP: f"{1000 * tr_seconds:.6f}"}

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append TRs."""
        from nibabel.gifti import GiftiDataArray

        for row_V in np.asarray(rows_TV, "<f4"):
            for stream, row_N in zip(self._streams, np.split(row_V, [self._n_left]), strict=True):
                array = GiftiDataArray(
                    row_N,
                    intent=_TIME_SERIES,
                    datatype="NIFTI_TYPE_FLOAT32",
                    encoding="GIFTI_ENCODING_B64GZ",
                    endian="little",
                    meta=self._about,
                )
                stream.write(array.to_xml())


def _both(file: Path) -> dict[str, tuple[Any, NDArray[Any]]]:
    """Load a scan's pair of files: image and rows (T, N), by side.

    Raises
    ------
    InputError
        If one is missing or damaged, of the other side, or of another length.
    """
    pair = dict(zip(SIDES, Surface.files_of(file), strict=True))
    both = {side: _load(each, side) for side, each in pair.items()}
    left, right = (len(rows_TN) for _, rows_TN in both.values())
    if left != right:
        raise InputError(
            f"{pair['left']} has {left} TRs and {pair['right']} has {right}; both hemispheres of a "
            "scan have the same"
        )
    return both


def _label_pair(file: Path) -> dict[str, tuple[NDArray[Any], dict[int, str]]]:
    """Load a pair of label images: the number of each vertex, (N,), and names, by side."""
    pair = {}
    for side, each in zip(SIDES, Surface.files_of(file), strict=True):
        image, rows_TN = _load(each, side)
        if len(rows_TN) != 1:
            raise InputError(
                f"{each}: a label image holds a number per vertex, this file {len(rows_TN)}"
            )
        names = image.labeltable.get_labels_as_dict()
        pair[side] = rows_TN[0], {int(n): str(name) for n, name in names.items() if n > 0}
    return pair


def _load(file: Path, side: str) -> tuple[Any, NDArray[Any]]:
    import nibabel

    try:
        image: Any = nibabel.load(file)
        arrays = [array.data for array in image.darrays]
    except Exception as error:  # XML, zip and value errors, by where the file is broken
        raise InputError(f"{file}: is not a readable GIFTI file: {one_line(error)}") from error
    structure = image.meta.get(_STRUCTURE)
    if structure in _STRUCTURES.values() and structure != _STRUCTURES[side]:
        raise InputError(f"{file}: is of the {side} hemisphere by its name, and says {structure}")
    shapes = sorted({array.shape for array in arrays})
    if len(arrays) == 1 and arrays[0].ndim == 2:
        rows_TN = arrays[0].T  # the TRs of each vertex, as nilearn writes
    elif len(shapes) == 1 and len(shapes[0]) == 1:
        rows_TN = np.stack(arrays)
    else:
        found = ", ".join(map(str, shapes)) or "none"
        raise InputError(
            f"{file}: a scan holds one array (vertices,) per TR, or one (vertices, TRs); this file "
            f"holds {len(arrays)} arrays of shape {found}"
        )
    if rows_TN.dtype.kind not in "fiu" or 0 in rows_TN.shape:
        raise InputError(
            f"{file}: a scan holds real numbers, this file {rows_TN.dtype} of shape {rows_TN.shape}"
        )
    return image, rows_TN


def _check_tr(image: Any, file: Path, tr_seconds: float) -> None:
    """Compare the time step with the TR that is set, to 1 ms.

    FreeSurfer says it in ms, others in s; those who know none leave 0.
    """
    for about in (image.meta, *(array.meta for array in image.darrays)):
        try:
            step = float(about.get(_TIME_STEP, 0))
        except ValueError:
            step = math.nan
        steps = (step, step / 1000)
        if step and not any(abs(each - tr_seconds) <= _TR_TOLERANCE_SECONDS for each in steps):
            raise InputError(
                f"{file}: its {_TIME_STEP} is {about[_TIME_STEP]}, where a TR of {tr_seconds:g} s "
                "is set; give that as --tr_seconds, or, if the header is wrong, "
                "--scan.ignore_header_tr"
            )
