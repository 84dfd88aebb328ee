"""Files that were planted to run code, or to reach outside the data set: an error, nothing more."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import MANIFEST
from giblet_ray.dataset.reader import Dataset, Selection
from giblet_ray.dataset.schema import _checksum
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.features.array_file import read_array
from giblet_ray.parts.codes import Codes
from giblet_ray.parts.part import Prepared
from giblet_ray.precompute.prepared import find_prepared
from giblet_ray.precompute.units import WORK
from giblet_ray.training.data import plan_data


class Planted:
    """Touches a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self._trap = trap

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self._trap,)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file that is not there, unless a planted pickle has been loaded."""
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Planted(trap)))
    assert trap.exists()
    trap.unlink()
    return trap


@pytest.fixture
def folder(arrays_and_dataset: tuple, tmp_path: Path) -> Path:
    """A copy of the small data set."""
    return Path(shutil.copytree(arrays_and_dataset[1].storage.location, tmp_path / "data"))


def read_all(folder: Path) -> None:
    dataset = Dataset.open(str(folder))
    for span in dataset.row_groups():
        dataset.read(span, Selection(("frames", "codes", "text"), dataset.subjects))


def sign(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest that matches its checksum."""
    content.pop("checksum", None)
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": _checksum(content)}))


def plant(folder: Path, path: str, content: bytes) -> None:
    """Put a file in a shard's place, with a manifest that knows its size."""
    (folder / path).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    for shard in [
        *manifest["stimuli"][0]["phases"][0]["shards"].values(),
        *(s["shard"] for s in manifest["scans"]),
    ]:
        if shard["path"] == path:
            shard["bytes"] = len(content)
    sign(folder, manifest)


def pickled_shard(folder: Path, trap: Path) -> None:
    plant(folder, "text/one.parquet", pickle.dumps(Planted(trap)))


def pickle_in_parquet_metadata(folder: Path, trap: Path) -> None:
    """In every place where a reader of pandas or Arrow extension types might look."""
    bytes_ = pickle.dumps(Planted(trap))
    table = pq.read_table(folder / "text/one.parquet")
    keys = (b"pandas", b"part", b"stimulus", b"ARROW:extension:metadata")
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type"}
    fields = [
        field.with_metadata({**(field.metadata or {}), **extension, keys[-1]: bytes_})
        for field in table.schema
    ]
    schema = pa.schema(fields, metadata=dict.fromkeys(keys, bytes_))
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(schema), sink)
    plant(folder, "text/one.parquet", sink.getvalue().to_pybytes())


def pickled_manifest(folder: Path, trap: Path) -> None:
    (folder / MANIFEST).write_bytes(pickle.dumps(Planted(trap)))


def deep_manifest(folder: Path, trap: Path) -> None:
    (folder / MANIFEST).write_text("[" * 200_000)


def path_outside(folder: Path, trap: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["stimuli"][0]["phases"][0]["shards"]["text"]["path"] = "../../secret"
    sign(folder, manifest)


def name_outside(folder: Path, trap: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    stimulus = manifest["stimuli"][0]
    stimulus["name"] = "../../secret"
    for part, shard in stimulus["phases"][0]["shards"].items():
        shard["path"] = f"{part}/../../secret.parquet"
    sign(folder, manifest)


def file_of_a_space_outside(folder: Path, trap: Path) -> None:
    """Checkpoints have a file of this name."""
    manifest = json.loads((folder / MANIFEST).read_text())
    space = manifest["subjects"]["01"]["space"]
    space["blobs"]["/../../secret"] = space["blobs"].pop("mask.nii.gz")
    sign(folder, manifest)


def huge_shape(folder: Path, trap: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["parts"]["text"]["value"]["shape"] = [2**28]
    sign(folder, manifest)


@pytest.mark.parametrize(
    "set_trap",
    [
        pickled_shard,
        pickle_in_parquet_metadata,
        pickled_manifest,
        deep_manifest,
        path_outside,
        name_outside,
        file_of_a_space_outside,
        huge_shape,
    ],
    ids=lambda set_trap: set_trap.__name__,
)
def test_planted_data_set_does_nothing_but_fail(
    folder: Path, trap: Path, set_trap: Callable
) -> None:
    read_all(folder)
    set_trap(folder, trap)
    with pytest.raises(InputError) as error:
        read_all(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert not trap.exists()


def test_planted_voxel_mask_does_nothing_but_fail(
    arrays_and_dataset: tuple, trap: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "voxels.npy"
    np.save(mask, np.array([Planted(trap)], dtype=object), allow_pickle=True)
    location = arrays_and_dataset[1].storage.location
    job = TrainJob(dataset=location, data={"voxels": str(mask)}, model={"audio_codebooks": 2})
    with pytest.raises(InputError, match=rf"^--data.voxels {mask}: not a readable .npy file"):
        plan_data(job)
    assert not trap.exists()


def test_planted_codec_does_nothing_but_fail(trap: Path, tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "data"))
    planted = pickle.dumps(Planted(trap))
    for name in ("codes.prepared", "codes.prepared.json"):
        with storage.write(f"{WORK}/{name}") as stream:
            stream.write(planted)
    assert find_prepared(storage, "codes", {}) is None
    with pytest.raises(InputError, match="not a saved codec"):
        Codes("codes").load(Prepared(planted), "cpu")
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_planted_array_does_nothing_but_fail(trap: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    values = np.array([[Planted(trap)]], dtype=object)
    if suffix == ".npy":
        np.save(path, values, allow_pickle=True)
    else:
        np.savez(path, values=values)
    with pytest.raises(InputError, match=rf"^{path}: cannot be read as {suffix}: "):
        read_array(str(path))
    assert not trap.exists()
