"""Names, types and manifests."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.binary import as_arrays, as_binary
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_shard
from giblet_ray.errors import InputError
from giblet_ray.parts.value import ValueType


@given(
    dtype=st.sampled_from(["uint8", "int16", "float16", "float32"]),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
)
def test_field_says_what_its_bytes_are(dtype: str, shape: list[int]) -> None:
    field = ValueType.model_validate({"dtype": dtype, "shape": shape}).field("value")
    assert field.metadata == {b"dtype": dtype.encode(), b"shape": json.dumps(shape).encode()}
    assert field.type == pa.binary(np.dtype(dtype).itemsize * int(np.prod(shape)))


def test_binary_columns_are_views_at_any_offset() -> None:
    values = np.arange(7 * 6, dtype=np.int16).reshape(7, 2, 3)
    column = as_binary(values)
    kind = ValueType(dtype="int16", shape=(2, 3))
    np.testing.assert_array_equal(as_arrays(column.slice(2, 4), kind), values[2:6])
    assert np.shares_memory(as_arrays(column, kind), values)


def test_manifest_comes_back_and_its_checksum_covers_every_file(
    arrays_and_dataset: tuple,
) -> None:
    manifest = arrays_and_dataset[1].manifest
    again = Manifest.from_json(manifest.to_json(), "manifest.json")
    assert again == manifest
    assert again.checksum == manifest.checksum
    (scan, *others) = manifest.scans
    damaged = scan.model_copy(update={"shard": scan.shard.model_copy(update={"sha256": "0"})})
    assert manifest.model_copy(update={"scans": (damaged, *others)}).checksum != manifest.checksum


def test_field_missing_from_a_manifest_is_named(arrays_and_dataset: tuple) -> None:
    from giblet_ray.dataset.schema import _checksum

    content = json.loads(arrays_and_dataset[1].manifest.to_json())
    del content["checksum"], content["stimuli"][1]["phases"][0]["n_trs"]
    content["checksum"] = _checksum(content)
    with pytest.raises(InputError, match=r"^here: stimuli.1.phases.0.n_trs: Field required"):
        Manifest.from_json(json.dumps(content).encode(), "here")


def test_unknown_uri_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="no file system for this URI"):
        Dataset.open("nowhere://lab/data")


def test_what_is_wrong_with_a_uri_is_told() -> None:
    with pytest.raises(InputError, match=r"s3://lab/data\?zone=1: .*query parameter.* 'zone'"):
        Dataset.open("s3://lab/data?zone=1")


def test_empty_array_is_not_a_shard(tmp_path: object) -> None:
    with pytest.raises(InputError, match="no TRs to write"):
        write_shard(
            Storage.at(str(tmp_path)), "text/a.parquet", np.zeros((0, 4), np.float32), 4, {}
        )
