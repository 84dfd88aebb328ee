"""What is written comes back to the bit, and what is wrong is said."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from giblet_ray.dataset.binary import as_arrays
from giblet_ray.dataset.layout import ScanKey, bold_column
from giblet_ray.dataset.reader import Dataset, Selection, Span
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.stored import Phase, Shard, Stimulus, StoredPart
from giblet_ray.dataset.writer import value_type, write_manifest, write_shard
from giblet_ray.errors import InputError
from giblet_ray.parts.built_in import checked_part_name
from giblet_ray.parts.value import ValueType


def stored_part(encoder: str, values: np.ndarray) -> StoredPart:
    return StoredPart(kind="made", modality="made", encoder=encoder, value=value_type(values))


def film(shards: dict[str, Shard], n_trs: int) -> Stimulus:
    return Stimulus(name="film", sources={}, phases=(Phase(n_trs=n_trs, shards=shards),))


def values_of(table: Any, column: str, kind: ValueType) -> np.ndarray:
    return as_arrays(table[column].combine_chunks(), kind)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    dtype=st.sampled_from(["uint8", "int16", "float16", "float32"]),
    n_trs=st.integers(1, 40),
    row_group=st.integers(1, 17),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
)
def test_written_arrays_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    dtype: str,
    n_trs: int,
    row_group: int,
    shape: list[int],
) -> None:
    values = data.draw(numpy_st.arrays(np.dtype(dtype), (n_trs, *shape)))
    storage = Storage.at(str(tmp_path_factory.mktemp("written")))
    labels = {"part": "text", "stimulus": "film"}
    shard = write_shard(storage, "text/film.parquet", values, row_group, labels)
    manifest = Manifest(
        tr_seconds=2,
        row_group_trs=row_group,
        parts={"text": stored_part("image", values)},
        stimuli=(film({"text": shard}, n_trs),),
    )
    write_manifest(storage, manifest)
    dataset = Dataset.open(storage.location)
    start = data.draw(st.integers(0, n_trs - 1))
    stop = data.draw(st.integers(start + 1, n_trs))
    table = dataset.read(Span("film", start, stop), Selection(parts=("text",)))
    found = values_of(table, "text", value_type(values))
    assert found.tobytes() == values[start:stop].tobytes()
    assert table["tr"].to_pylist() == list(range(start, stop))


@pytest.mark.parametrize("span", [Span("one", 0, 16), Span("one", 13, 70), Span("one", 110, 117)])
def test_bold_lies_in_the_rows_of_its_own_trs(arrays_and_dataset: tuple, span: Span) -> None:
    arrays, dataset = arrays_and_dataset
    table = dataset.read(span, Selection(("codes",), ("02",)))
    bold = table[bold_column("02")].combine_chunks()
    found = as_arrays(bold, dataset.value_type("bold/01"))
    expected = arrays["bold/02/one.parquet"][span.start : span.stop]
    np.testing.assert_array_equal(found, expected)


def test_first_codebooks_and_chosen_voxels_are_read(arrays_and_dataset: tuple) -> None:
    arrays, dataset = arrays_and_dataset
    voxels = np.array([5, 0, 23])
    selection = Selection(("codes",), ("01",), leading={"codes": 2}, units={"01": voxels})
    table = dataset.read(Span("two", 10, 50), selection)
    codes = values_of(table, "codes", selection.value_type(dataset, "codes"))
    np.testing.assert_array_equal(codes, arrays["codes/two.parquet"][10:50, :2])
    bold = values_of(table, "bold/01", selection.value_type(dataset, "bold/01"))
    np.testing.assert_array_equal(bold, arrays["bold/01/two.parquet"][10:50, voxels])
    assert table.column_names == ["stimulus", "phase", "tr", "codes", "bold/01"]


def test_a_part_is_not_called_what_the_rows_of_all_parts_have(arrays_and_dataset: tuple) -> None:
    table = arrays_and_dataset[1].read(Span("one", 0, 3), Selection())
    assert table.column_names
    for name in table.column_names:
        with pytest.raises(InputError, match="the name is taken"):
            checked_part_name(name, "--array")


def test_row_groups_cover_every_stimulus(arrays_and_dataset: tuple) -> None:
    spans = arrays_and_dataset[1].row_groups()
    assert sum(len(span) for span in spans) == 117 + 83
    assert max(len(span) for span in spans) == 16


@pytest.fixture
def copy(arrays_and_dataset: tuple, tmp_path: Path) -> Path:
    """A copy of the data set, to be damaged."""
    return Path(shutil.copytree(arrays_and_dataset[1].storage.location, tmp_path / "copy"))


def read_all(folder: Path) -> None:
    dataset = Dataset.open(str(folder))
    selection = Selection(("frames", "codes", "text"), dataset.subjects)
    for span in dataset.row_groups():
        dataset.read(span, selection)


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def damage(folder: Path, how: str) -> None:
    """Damage a data set in one way."""
    frames, bold = folder / "frames/one.parquet", folder / "bold"
    if how == "missing manifest":
        (folder / "manifest.json").unlink()
    elif how == "edited manifest":
        edit_manifest(folder, tr_seconds=2.0)
    elif how == "unknown version":
        edit_manifest(folder, schema_version=99)
    elif how == "not JSON":
        (folder / "manifest.json").write_text("{")
    elif how == "missing file":
        frames.unlink()
    elif how == "truncated file":
        frames.write_bytes(frames.read_bytes()[:-100])
    elif how == "flipped byte":
        content = bytearray(frames.read_bytes())
        content[len(content) // 2] ^= 1
        frames.write_bytes(content)
    elif how == "swapped files":
        one, two = bold / "01/one.parquet", bold / "02/one.parquet"
        kept = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(kept)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing manifest", r"manifest.json: no such file"),
        ("edited manifest", r"manifest.json: its content does not match its checksum"),
        ("unknown version", r"manifest.json: schema version 99 is unknown"),
        ("not JSON", r"manifest.json: not JSON"),
        ("missing file", r"frames/one.parquet: no such file; the manifest says"),
        ("truncated file", r"frames/one.parquet: [\d,]+ bytes; the manifest says"),
        ("flipped byte", r"frames/one.parquet: changed since .*, or damaged"),
        ("swapped files", r"bold/01/one.parquet: .*the manifest says"),
    ],
)
def test_damaged_data_set_is_refused_in_one_line(copy: Path, how: str, message: str) -> None:
    read_all(copy)
    damage(copy, how)
    with pytest.raises(InputError, match=message) as error:
        read_all(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", [{"compression": "zstd"}, {"data_page_size": 100}])
def test_shards_that_another_writer_wrote_anew_give_the_same_rows(copy: Path, how: dict) -> None:
    """Their values lie elsewhere than those of the shards that were read before."""
    span, selection = Span("one", 13, 70), Selection(("frames", "codes"), ("01",))
    expected = Dataset.open(str(copy)).read(span, selection)
    for path in copy.rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table, path, row_group_size=16, write_batch_size=1, **how)
        assert pq.read_metadata(path).row_group(0).column(1).total_compressed_size != (
            16 * table.schema.field("value").type.byte_width
        )
    anew = Dataset.described(str(copy)).read(span, selection)
    assert anew.equals(expected)


def test_code_outside_the_codebook_is_refused(tmp_path: Path) -> None:
    codes = np.full((5, 2, 112), 1023, np.int16)
    codes[3, 1, 7] = 1024
    storage = Storage.at(str(tmp_path))
    labels = {"part": "codes", "stimulus": "film"}
    shard = write_shard(storage, "codes/film.parquet", codes, 4, labels)
    manifest = Manifest(
        tr_seconds=1.5,
        row_group_trs=4,
        parts={"codes": stored_part("codes", codes)},
        stimuli=(film({"codes": shard}, 5),),
    )
    write_manifest(storage, manifest)
    dataset = Dataset.open(str(tmp_path))
    with pytest.raises(InputError, match=r"code 1024 at TR 3; 0 to 1023 are accepted"):
        dataset.read(Span("film", 0, 5), Selection(("codes",)))


def test_subject_without_a_scan_has_no_bold(tmp_path: Path, dataset_writer: Callable) -> None:
    dataset_writer(tmp_path, {"one": 6, "two": 7}, ("01", "02"), unseen=(("01", "two"),))
    table = Dataset.open(str(tmp_path)).read(Span("two", 0, 7), Selection((), ("01", "02")))
    assert (table["bold/01"].null_count, table["bold/02"].null_count) == (7, 0)


def test_repeats_have_columns_of_their_own(tmp_path: Path, dataset_writer: Callable) -> None:
    arrays = dataset_writer(tmp_path, {"one": 40}, ("01", "02"), repeats=2)
    dataset = Dataset.open(str(tmp_path))
    assert list(dataset.scans)[:2] == [ScanKey("01", "one"), ScanKey("01", "one", 2)]
    table = dataset.read(Span("one", 5, 38), Selection((), ("01", "02"), {"02": 2}))
    assert table.column_names == ["stimulus", "phase", "tr", "bold/01", "bold/02", "bold/02/2"]
    again = values_of(table, "bold/02/2", dataset.value_type("bold/02"))
    np.testing.assert_array_equal(again, arrays["bold/02/2/one.parquet"][5:38])
    assert table["bold/02/2"].null_count == 0


@pytest.mark.parametrize(("onset_trs", "n_rows"), [(0, 30), (2, 40), (2, 35), (-3, 30), (-3, 4)])
def test_rows_of_a_scan_lie_where_its_film_begins(
    tmp_path: Path, dataset_writer: Callable, onset_trs: int, n_rows: int
) -> None:
    """Its first volumes may be before the film, or the film before them; it may end anywhere."""
    arrays = dataset_writer(
        tmp_path,
        {"one": 37},
        ("01",),
        onset_seconds=1.5 * onset_trs,
        change_bold=lambda key, bold: np.resize(bold, (n_rows, bold.shape[1])),
    )
    dataset = Dataset.open(str(tmp_path))
    table = dataset.read(Span("one", 0, 37), Selection((), ("01",)))
    nulls = table["bold/01"].combine_chunks().is_null().to_pylist()
    found = values_of(table, "bold/01", dataset.value_type("bold/01"))
    usable = dataset.usable_trs(ScanKey("01", "one"))
    for tr in range(37):
        row = tr + onset_trs
        assert nulls[tr] == (not 0 <= row < n_rows)
        if not nulls[tr]:
            np.testing.assert_array_equal(found[tr], arrays["bold/01/one.parquet"][row])
        assert usable[tr] == (0 <= tr + onset_trs < n_rows)


def test_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))

    def write_half() -> None:
        with storage.write("frames/film.parquet") as stream:
            stream.write(b"half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_half()
    assert storage.names() == []


def test_data_set_on_another_file_system(arrays_and_dataset: tuple) -> None:
    arrays, local = arrays_and_dataset
    remote = fsspec.filesystem("memory")
    remote.put(f"{local.storage.location}/", "/lab/", recursive=True)
    dataset = Dataset.open("memory://lab")
    table = dataset.read(Span("one", 3, 33), Selection(("frames",)))
    found = values_of(table, "frames", dataset.value_type("frames"))
    np.testing.assert_array_equal(found, arrays["frames/one.parquet"][3:33])
    assert dataset.manifest.checksum == local.manifest.checksum


class _Listed(MemoryFileSystem):
    """Notes which shards it is asked for one by one."""

    protocol = "listed"
    asked: ClassVar[set[str]] = set()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("listed://", "memory://"))

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        if path.endswith(".parquet"):
            self.asked.add(path)
        return super().info(path, **more)


def test_what_a_task_is_sent_does_not_grow_with_the_data_set(arrays_and_dataset: tuple) -> None:
    _, dataset = arrays_and_dataset
    large = dataset.manifest.model_copy(update={"provenance": {"shards": ["x" * 1000] * 1000}})
    some = Dataset(dataset.storage, large).only(["one"])
    assert len(pickle.dumps(some)) < 20_000
    span = Span("one", 0, 9)
    assert some.read(span, Selection(("text",))).equals(dataset.read(span, Selection(("text",))))


def test_shards_are_listed_together(arrays_and_dataset: tuple) -> None:
    """An object store takes 10 to 100 ms to tell of one."""
    _, local = arrays_and_dataset
    fsspec.register_implementation("listed", _Listed, clobber=True)
    remote = fsspec.filesystem("listed")
    remote.put(f"{local.storage.location}/", "/film/", recursive=True)
    remote.asked.clear()
    assert Dataset.open("listed://film").manifest.checksum == local.manifest.checksum
    assert remote.asked == set()
    remote.rm("/film/codes/two.parquet")
    with pytest.raises(InputError, match=r"codes/two.parquet: no such file"):
        Dataset.open("listed://film")


def test_shards_that_are_links_are_there(copy: Path, tmp_path: Path) -> None:
    """As git-annex leaves them."""
    shard = copy / "frames/one.parquet"
    shard.rename(tmp_path / "content")
    shard.symlink_to(tmp_path / "content")
    folder = copy / "bold/01"
    folder.rename(tmp_path / "of 01")
    folder.symlink_to(tmp_path / "of 01")
    read_all(copy)
