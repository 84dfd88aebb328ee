"""Whatever becomes of a data set's files, it gives the numbers that were written, or an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.schema import _checksum
from giblet_ray.dataset.source import hold_shards
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_shard
from giblet_ray.errors import InputError

N_TRS = {"one": 37, "two": 21}
Arrays = dict[str, np.ndarray]
Mutation = Callable[[Path, np.random.Generator], None]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable) -> tuple:
    """A data set, and what was written by shard path."""
    folder = tmp_path_factory.mktemp("mutated") / "data"
    return folder, dataset_writer(folder, N_TRS, ("01", "02"), n_voxels=9, n_codebooks=2)


@pytest.fixture
def folder(written: tuple, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(written[0], tmp_path / "data"))


def check_all(dataset: Dataset, arrays: Arrays) -> None:
    """Read every row that the manifest lists and compare it with what was written."""
    selection = everything(dataset)
    for span in dataset.row_groups():
        check_rows(dataset.read(span, selection), dataset, arrays)


def everything(dataset: Dataset) -> Selection:
    parts = tuple(dataset.manifest.parts)
    return Selection(parts, dataset.subjects)


def check_rows(table: Any, dataset: Dataset, arrays: Arrays) -> None:
    """Compare the rows of one stimulus."""
    (stimulus,) = set(table["stimulus"].to_pylist())
    trs = table["tr"].to_numpy()
    for column, kind in everything(dataset).value_types(dataset).items():
        values = table[column].combine_chunks()
        if values.null_count == len(values):
            continue
        assert values.null_count == 0
        expected = arrays[f"{column}/{stimulus}.parquet"][trs]
        assert expected.dtype == kind.numpy
        assert as_arrays(values, kind).tobytes() == expected.tobytes()


def outcome(folder: Path, arrays: Arrays) -> str:
    """Return ``right``, or the error."""
    try:
        check_all(Dataset.open(str(folder)), arrays)
    except InputError as error:
        return one_line(error, folder)
    return "right"


def one_line(error: InputError, file: Path) -> str:
    """Return what an error says, if that is one line about a file."""
    said = str(error)
    assert "\n" not in said
    assert str(file) in said
    return said


# --- what may happen to files ---------------------------------------------------------------


def a_file(folder: Path, random: np.random.Generator) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files[random.integers(len(files))]


def flip(folder: Path, random: np.random.Generator) -> None:
    path = a_file(folder, random)
    content = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 4)):
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


def flip_metadata(folder: Path, random: np.random.Generator) -> None:
    path = a_file(folder, random)
    content = bytearray(path.read_bytes())
    content[-random.integers(1, min(3000, len(content)))] = random.integers(256)
    path.write_bytes(content)


def blank(folder: Path, random: np.random.Generator) -> None:
    path = a_file(folder, random)
    content = bytearray(path.read_bytes())
    start = random.integers(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


def cut(folder: Path, random: np.random.Generator) -> None:
    path = a_file(folder, random)
    content = path.read_bytes()
    path.write_bytes(content[: random.integers(len(content))])


def append(folder: Path, random: np.random.Generator) -> None:
    path = a_file(folder, random)
    path.write_bytes(path.read_bytes() + random.bytes(random.integers(1, 100)))


def shift(folder: Path, random: np.random.Generator) -> None:
    """Leave some bytes out and add as many: the size stays."""
    path = a_file(folder, random)
    content = path.read_bytes()
    start, n = random.integers(len(content)), random.integers(1, 50)
    path.write_bytes((content[:start] + content[start + n :] + bytes(n))[: len(content)])


def swap(folder: Path, random: np.random.Generator) -> None:
    one, two = a_file(folder, random), a_file(folder, random)
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)


def swap_of_one_size(folder: Path, random: np.random.Generator) -> None:
    stimulus = random.choice(["one", "two"])
    one, two = (folder / f"bold/{subject}/{stimulus}.parquet" for subject in ("01", "02"))
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)


def delete(folder: Path, random: np.random.Generator) -> None:
    a_file(folder, random).unlink()


def rename(folder: Path, random: np.random.Generator) -> None:
    a_file(folder, random).rename(a_file(folder, random))


def write_others(folder: Path, random: np.random.Generator) -> None:
    """Put a valid shard of the same name, labels and size in a shard's place."""
    subject, stimulus = random.choice(["01", "02"]), random.choice(["one", "two"])
    labels = {"part": "bold", "stimulus": str(stimulus), "subject": str(subject)}
    values = random.normal(size=(N_TRS[str(stimulus)], 9)).astype(np.float32)
    path = f"bold/{subject}/{stimulus}.parquet"
    before = (folder / path).stat().st_size
    write_shard(Storage.at(str(folder)), path, values, 16, labels)
    assert (folder / path).stat().st_size == before


def edit(folder: Path, random: np.random.Generator, sign: bool = False) -> None:
    """Change, delete or double something in the manifest."""
    content = json.loads((folder / MANIFEST).read_text())
    del content["checksum"]
    places = list(leaves(content))
    node, key = places[random.integers(len(places))]
    value = node[key]
    if random.random() < 0.2:
        del node[key]
    elif isinstance(value, str):
        node[key] = random.choice([value + "x", value[:-1], "../" + value, "one", "02", "uint8"])
    elif value is None:
        node[key] = random.choice(["", "blobs/x", 0])
    else:
        node[key] = random.choice([0, -1, value + 1, value - 1, value * 2, 16, 1e300])
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": _checksum(content)}))


def swap_entries(folder: Path, random: np.random.Generator) -> None:
    """Let two entries of the manifest change places, of which some are alike."""
    content = json.loads((folder / MANIFEST).read_text())
    del content["checksum"]
    phases = [phase for stimulus in content["stimuli"] for phase in stimulus["phases"]]
    of_stimuli = [(phase["shards"], part) for phase in phases for part in phase["shards"]]
    shards = [*of_stimuli, *((scan, "shard") for scan in content["scans"])]
    (one, i), (two, j) = (shards[k] for k in random.choice(len(shards), 2, replace=False))
    what = random.choice(["all", "path", "row_groups"])
    if what == "all":
        one[i], two[j] = two[j], one[i]
    else:
        one[i][what], two[j][what] = two[j][what], one[i][what]
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": _checksum(content)}))


def leaves(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a JSON value that holds a string or number."""
    for key in range(len(node)) if isinstance(node, list) else list(node):
        if isinstance(node[key], dict | list):
            yield from leaves(node[key])
        else:
            yield node, key


MUTATIONS: list[Mutation] = [
    flip,
    flip_metadata,
    blank,
    cut,
    append,
    shift,
    swap,
    swap_of_one_size,
    delete,
    rename,
    write_others,
    edit,
    swap_entries,
]


# --- what comes of it -----------------------------------------------------------------------


def restore(folder: Path, original: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(original, folder)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_mutated_data_set_gives_the_right_numbers_or_one_line(
    mutate: Mutation, written: tuple, folder: Path
) -> None:
    original, arrays = written
    outcomes = []
    for seed in range(24):
        mutate(folder, np.random.default_rng(seed))
        outcomes.append(outcome(folder, arrays))
        restore(folder, original)
    assert len(set(outcomes)) > 1
    assert outcome(folder, arrays) == "right"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_span_of_a_damaged_file_is_right_or_refused(
    data: st.DataObject, written: tuple, folder: Path
) -> None:
    original, arrays = written
    dataset = Dataset.open(str(original))
    elsewhere = replace(dataset, storage=Storage.at(str(folder)))
    shard = data.draw(st.sampled_from([shard.path for shard in dataset.shards]))
    content = bytearray((original / shard).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / shard).write_bytes(content)
    stimulus = Path(shard).stem
    start = data.draw(st.integers(0, N_TRS[stimulus] - 1))
    span = Span(stimulus, start, data.draw(st.integers(start + 1, N_TRS[stimulus])))
    try:
        check_rows(elsewhere.read(span, everything(dataset)), dataset, arrays)
    except InputError as error:
        one_line(error, folder / shard)
    finally:
        (folder / shard).write_bytes((original / shard).read_bytes())


@pytest.mark.parametrize(
    ("mutate", "what"),
    [
        (flip, r"the checksum of row group"),
        (swap_of_one_size, r"it holds .*'subject': '0\d'"),
        (write_others, r"the checksum of row group"),
        (delete, r"no such file"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_change_of_an_open_data_set_is_noticed_by_read_tasks(
    cluster: None, written: tuple, folder: Path, mutate: Mutation, what: str
) -> None:
    dataset = Dataset.open(str(folder))
    (folder / MANIFEST).rename(folder.with_name(MANIFEST))  # has been read already
    mutate(folder, np.random.default_rng(1))
    with pytest.raises(InputError, match=rf"^{folder}/.*\.parquet: .*{what}.*") as error:
        hold_shards(dataset, everything(dataset))
    assert "\n" not in str(error.value)


def test_read_tasks_give_what_was_written(cluster: None, written: tuple) -> None:
    folder, arrays = written
    dataset = Dataset.open(str(folder))
    for block in ray.get(hold_shards(dataset, everything(dataset)).to_arrow_refs()):
        for name in N_TRS:
            of_one = block.filter(pc.equal(block["stimulus"].cast(pa.string()), name))
            if len(of_one):
                check_rows(of_one, dataset, arrays)
