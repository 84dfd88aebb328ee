import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from giblet_ray.dataset.check import check_dataset
from giblet_ray.dataset.contents import contents_tables
from giblet_ray.dataset.layout import MANIFEST, stimulus_shard
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.schema import Manifest
from giblet_ray.dataset.storage import Storage
from giblet_ray.dataset.writer import write_manifest, write_shard
from giblet_ray.errors import InputError

N_TRS = {"one": 117, "two": 83}


@pytest.fixture
def arrays(arrays_and_dataset):
    return arrays_and_dataset[0]


@pytest.fixture
def folder(arrays_and_dataset, tmp_path):
    """A copy of the small data set that may be damaged."""
    return shutil.copytree(arrays_and_dataset[1].storage.root, tmp_path / "dataset")


def problems(folder):
    found = check_dataset(str(folder)).problems
    assert all("\n" not in line for line in found)
    return found


def rewrite(folder, path, values, **changes):
    """Put other values into a shard, with a manifest that knows its new checksum."""
    storage = Storage.at(str(folder))
    manifest = Dataset.open(str(folder)).manifest.model_dump(mode="json")
    part, *_, stimulus = path.removesuffix(".parquet").split("/")
    labels = {"part": part, "stimulus": stimulus}
    if part == "bold":
        labels["subject"] = path.split("/")[1]
    shard = write_shard(storage, path, values, manifest["row_group_trs"], labels | changes)
    phases = [phase for s in manifest["stimuli"] for phase in s["phases"]]
    entries = [phase["shards"][part] for phase in phases if part in phase["shards"]]
    entries += [scan["shard"] for scan in manifest["scans"]]
    (entry,) = [entry for entry in entries if entry["path"] == path]
    entry.update(shard.model_dump(mode="json"))
    write_manifest(storage, Manifest.model_validate(manifest))


def set_manifest(folder, change):
    """Change a manifest's content, with a checksum that is right."""
    content = json.loads((folder / MANIFEST).read_text())
    del content["checksum"]
    change(content)
    write_manifest(Storage.at(str(folder)), Manifest.model_validate(content))


def test_a_right_data_set_has_no_problems(folder):
    assert problems(folder) == ()


def test_a_flipped_bit_is_found(folder):
    shard = folder / "frames/two.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (line,) = problems(folder)
    assert str(shard) in line
    assert "checksum" in line


def test_missing_truncated_and_unknown_files_are_each_told(folder):
    (folder / "bold/01/one.parquet").unlink()
    shard = folder / "codes/one.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    shutil.copy(folder / "text/one.parquet", folder / "text/three.parquet")
    lines = problems(folder)
    assert len(lines) == 3
    for path, words in (
        ("text/three.parquet", "not in the manifest"),
        ("codes/one.parquet", "the manifest says"),
        ("bold/01/one.parquet", "no such file"),
    ):
        assert any(str(folder / path) in line and words in line for line in lines)


def test_a_space_that_is_damaged_or_unknown_is_found(folder):
    mask = folder / "blobs/mask.nii.gz"
    content = bytearray(mask.read_bytes())
    content[20] ^= 1
    mask.write_bytes(content)
    (folder / "blobs/other").write_text("")
    unknown, damaged = problems(folder)
    assert f"{folder}/blobs/other: is not in the manifest" in unknown
    assert f"{mask}: checksum is" in damaged
    with pytest.raises(InputError, match=rf"^{mask}: changed since .*, or damaged"):
        Dataset.open(str(folder)).blob("blobs/mask.nii.gz")


def test_a_file_in_the_place_of_another_is_found(folder, arrays):
    rewrite(folder, "bold/02/one.parquet", arrays["bold/01/one.parquet"], subject="01")
    (line,) = problems(folder)
    assert "bold/02/one.parquet" in line
    assert "'01'" in line


@pytest.mark.parametrize("n_trs", [116, 118])
def test_shards_of_another_length_than_their_stimulus_are_found(folder, arrays, n_trs):
    text = np.resize(arrays["text/one.parquet"], (n_trs, 1024))
    rewrite(folder, "text/one.parquet", text)
    (line,) = problems(folder)
    assert f"has {n_trs} TRs, the manifest says 117" in line


@pytest.mark.parametrize("code", [-1, 1024])
def test_codes_outside_the_codebook_are_found(folder, arrays, code):
    codes = arrays["codes/two.parquet"].copy()
    codes[82, 3, 111] = code
    rewrite(folder, "codes/two.parquet", codes)
    (line,) = problems(folder)
    assert "codes/two.parquet" in line
    assert f"code {code} at TR 82; 0 to 1023" in line


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_found(folder, arrays, value):
    text = arrays["text/two.parquet"].copy()
    text[37, 1000] = value
    rewrite(folder, "text/two.parquet", text)
    (line,) = problems(folder)
    assert "the value of TR 37 is not finite" in line


def test_counts_that_are_not_the_manifests_are_found(folder, arrays):
    text = arrays["text/one.parquet"].copy()
    text[[3, 116]] = 0
    rewrite(folder, "text/one.parquet", text)
    bold = arrays["bold/01/two.parquet"].copy()
    bold[40, 5] = np.nan
    bold[:, 7] = 3
    bold[:, 8] = np.inf
    rewrite(folder, "bold/01/two.parquet", bold)
    silent, voxels = problems(folder)
    assert "2 TRs are silent; the manifest says 0" in silent
    assert "2 units have NaN" in voxels
    assert "1 never change; the manifest says 0 and 0" in voxels


def test_a_stimulus_may_lack_a_part_that_others_have(folder):
    def change(content):
        del content["stimuli"][0]["phases"][0]["shards"]["text"]

    set_manifest(folder, change)
    (line,) = problems(folder)
    assert f"{folder / stimulus_shard('text', 'one')}: is not in the manifest" in line
    (folder / stimulus_shard("text", "one")).unlink()
    assert problems(folder) == ()


def test_a_folder_without_a_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"manifest.json: no such file"):
        check_dataset(str(tmp_path))


def test_tables_show_what_is_in_a_data_set(folder):
    def change(content):
        content["stimuli"][1]["phases"][0]["silent_trs"] = 11
        content["scans"][0]["nan_units"] = 5

    set_manifest(folder, change)
    console = Console(record=True, width=100)
    for table in contents_tables(Dataset.open(str(folder))):
        console.print(table)
    rows = [line.split() for line in console.export_text().replace("│", " ").splitlines()]
    assert ["one", "117", "0.05", "0", "2"] in rows
    assert ["two", "83", "0.03", "11", "2"] in rows
    assert ["all", "200", "0.08", "11", "4"] in rows
    assert ["01", "one", "1", "117", "0", "24", "5", "0"] in rows
    text_bytes = sum((folder / f"text/{name}.parquet").stat().st_size for name in N_TRS)
    assert ["text", "float32", "1024", "2", f"{text_bytes:,}"] in rows
