"""Rows found in blocks of any order and size."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.rows import HeldRows
from giblet_ray.dataset.windows import Windows
from giblet_ray.errors import InputError

SELECTION = Selection(("codes", "text"), ("01", "02"))


def windows_of(scan: int, starts: list[int], length: int) -> Windows:
    n = len(starts)
    return Windows(
        np.full(n, scan, np.int32), np.array(starts, np.int32), np.full(n, length, np.int32)
    )


def held(dataset: Dataset, blocks: list[pa.Table], scans: list[ScanKey]) -> HeldRows:
    kinds = {column: SELECTION.value_type(dataset, column) for column in SELECTION.columns}
    n_trs = dataset.bold_trs
    return HeldRows(blocks, kinds, scans, n_trs)


def buffers(dataset: Dataset, n: int, length: int) -> dict[str, np.ndarray]:
    return {
        part: np.zeros((n, length, *kind.shape), kind.numpy)
        for part, kind in (
            ("codes", dataset.value_type("codes")),
            ("text", dataset.value_type("text")),
            ("bold", dataset.value_type("bold/01")),
        )
    }


def test_windows_reach_across_blocks_of_any_order_and_cut(arrays_and_dataset: tuple) -> None:
    arrays, dataset = arrays_and_dataset
    random = np.random.default_rng(0)
    tables = [dataset.read(Span(s, 0, n), SELECTION) for s, n in (("one", 117), ("two", 83))]
    rows = pa.concat_tables(tables)
    cuts = [0, *sorted(random.choice(199, 9, replace=False) + 1), 200]
    # Blocks of both stimuli, of several chunks, and views into the middle of a buffer.
    blocks = [rows.slice(a, b - a) for a, b in pairwise(cuts)]
    random.shuffle(blocks)
    scans = [ScanKey("02", "two"), ScanKey("01", "one")]
    windows = windows_of(0, [3, 79, 16], 4)
    out = buffers(dataset, 3, 4)
    held(dataset, blocks, scans).gather(windows, 3, 0, out)
    for row, start in enumerate(windows.start):
        for part, first in (("codes", start - 3), ("text", start - 3), ("bold", start)):
            path = f"{part}/02/two.parquet" if part == "bold" else f"{part}/two.parquet"
            np.testing.assert_array_equal(out[part][row], arrays[path][first : first + 4])


@pytest.mark.parametrize(
    ("start", "length", "lag"), [(83, 1, 0), (80, 4, 0), (82, 2, 3), (-1, 1, 0)]
)
def test_window_past_its_run_is_refused(
    arrays_and_dataset: tuple, start: int, length: int, lag: int
) -> None:
    _, dataset = arrays_and_dataset
    # Another stimulus follows in the blocks, so that a row past the end would be there.
    blocks = [dataset.read(Span(s, 0, n), SELECTION) for s, n in (("two", 83), ("one", 117))]
    rows = held(dataset, blocks, [ScanKey("01", "two"), ScanKey("01", "one")])
    with pytest.raises(IndexError, match="past its scan"):
        rows.gather(windows_of(0, [start], length), lag, 0, buffers(dataset, 1, length))


def test_rows_that_were_not_read_are_noticed(arrays_and_dataset: tuple) -> None:
    _, dataset = arrays_and_dataset
    blocks = [
        dataset.read(Span("one", 0, 50), SELECTION),
        dataset.read(Span("one", 52, 117), SELECTION),
    ]
    with pytest.raises(InputError, match="stimulus one: 2 TRs are missing when read"):
        held(dataset, blocks, [ScanKey("01", "one")])


def test_subject_who_saw_one_stimulus_only(tmp_path: Path, dataset_writer: object) -> None:
    arrays = dataset_writer(  # type: ignore[operator]
        tmp_path, {"one": 30, "two": 20}, ("01", "02"), unseen=(("02", "one"),)
    )
    dataset = Dataset.open(str(tmp_path))
    scans = list(dataset.scans)
    assert ScanKey("02", "one") not in scans
    blocks = [dataset.read(Span(s, 0, n), SELECTION) for s, n in (("one", 30), ("two", 20))]
    out = buffers(dataset, 2, 1)
    held(dataset, blocks, scans).gather(
        windows_of(scans.index(ScanKey("02", "two")), [7, 3], 1), 3, 0, out
    )
    np.testing.assert_array_equal(out["bold"][:, 0], arrays["bold/02/two.parquet"][[7, 3]])
