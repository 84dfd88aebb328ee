"""What Ray Data reads is what lies in the files, in any number of tasks."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset import source
from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.normalise import UsedRows
from giblet_ray.dataset.normalise_on_cluster import fit_on_cluster
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.source import ShardSource, hold_shards, join_adjacent, read_shards
from giblet_ray.dataset.splits import Use
from giblet_ray.errors import InputError


@given(
    bounds=st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True),
    max_trs=st.integers(0, 40),
)
def test_joined_spans_hold_the_same_trs_in_the_same_order(bounds: list[int], max_trs: int) -> None:
    bounds.sort()
    spans = [Span(name, start, stop) for name in ("one", "two") for start, stop in pairwise(bounds)]

    def trs(of: list[Span]) -> list[tuple[str, int]]:
        return [(span.stimulus, tr) for span in of for tr in range(span.start, span.stop)]

    joined = join_adjacent(spans, max_trs)
    assert trs(joined) == trs(spans)
    assert all(len(span) <= max_trs or span in spans for span in joined)


def test_spans_that_do_not_go_on_are_not_joined() -> None:
    spans = [Span("one", 16, 32), Span("one", 0, 16), Span("one", 17, 20), Span("two", 20, 30)]
    assert join_adjacent(spans, 1000) == spans


@pytest.mark.parametrize("parallelism", [1, 3, 13, 1000])
def test_tasks_read_every_row_group_once(arrays_and_dataset: tuple, parallelism: int) -> None:
    _, dataset = arrays_and_dataset
    of_codes = ShardSource(dataset, Selection(parts=("codes",)), dataset.row_groups())
    tasks = of_codes.get_read_tasks(parallelism)
    assert len(tasks) <= parallelism
    read = [
        (block["stimulus"][0].as_py(), tr)
        for task in tasks
        for block in task()
        for tr in block["tr"].to_pylist()
    ]
    assert read == [(s, tr) for s, n in (("one", 117), ("two", 83)) for tr in range(n)]
    assert sum(task.metadata.num_rows for task in tasks) == 200


@pytest.mark.parametrize(("read_bytes", "tasks"), [(2**20, 1), (2**10, 4)])
def test_no_process_is_started_for_what_is_read_sooner(
    cluster: None,
    arrays_and_dataset: tuple,
    monkeypatch: pytest.MonkeyPatch,
    read_bytes: int,
    tasks: int,
) -> None:
    _, dataset = arrays_and_dataset
    monkeypatch.setattr(source, "READ_BYTES", read_bytes)
    rows = hold_shards(dataset, Selection(("text",), ("02",)))
    assert rows.count() == 200
    assert rows.num_blocks() == tasks


def test_held_blocks_hold_every_row(cluster: None, arrays_and_dataset: tuple) -> None:
    arrays, dataset = arrays_and_dataset
    selection = Selection(("text",), ("02",))
    blocks = ray.get(hold_shards(dataset, selection).to_arrow_refs())
    found = {}
    for block in blocks:
        bold = as_arrays(block["bold/02"].combine_chunks(), dataset.value_type("bold/01"))
        for stimulus, tr, row in zip(
            block["stimulus"].to_pylist(), block["tr"].to_pylist(), bold, strict=True
        ):
            found[stimulus, tr] = row
        assert block.column_names == ["stimulus", "phase", "tr", "text", "bold/02"]
    assert sum(map(len, blocks)) == len(found) == 200
    for (stimulus, tr), row in found.items():
        np.testing.assert_array_equal(row, arrays[f"bold/02/{stimulus}.parquet"][tr])


@pytest.fixture
def damaged(arrays_and_dataset: tuple, tmp_path: Path) -> Dataset:
    """A data set with one bit of one scan flipped."""
    arrays, dataset = arrays_and_dataset
    folder = Path(shutil.copytree(dataset.storage.location, tmp_path / "copy"))
    path = folder / "bold/02/two.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(arrays["bold/02/two.parquet"][40].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    return Dataset.open(str(folder))


@pytest.mark.parametrize("way", ["held", "z-scored"])
def test_damage_met_in_a_read_task_is_one_line(
    cluster: None, damaged: Dataset, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    selection = Selection(subjects=("01", "02"))

    def read() -> None:
        if way == "held":
            hold_shards(damaged, selection)
        else:
            scans = list(damaged.scans)
            rows = read_shards(damaged, selection)
            uses = [np.full(damaged.stimuli[scan.stimulus].n_trs, Use.TRAINS) for scan in scans]
            fit_on_cluster(rows, UsedRows(damaged, selection, scans, uses))

    with pytest.raises(
        InputError, match=r"^/.*bold/02/two.parquet: changed since .*, or damaged"
    ) as error:
        read()
    assert "\n" not in str(error.value)
    assert "Traceback" not in capfd.readouterr().err
