"""Parcels: regions of an atlas are the units."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nilearn.image import coord_transform, load_img
from nilearn.maskers import NiftiLabelsMasker
from scan_files import save
from space_examples import AFFINE, EXAMPLES, N_TRS, REGIONS, TR_SECONDS

from giblet_ray.errors import InputError
from giblet_ray.spaces.kinds import open_space, space_of_scan
from giblet_ray.spaces.packed import pack, unpack
from giblet_ray.spaces.scan import ScanOptions, read_bold
from giblet_ray.spaces.space import Series

MM_3 = np.array([[3.0, 0, 0, -60], [0, 3, 0, -90], [0, 0, 3, -40], [0, 0, 0, 1]])


def test_means_are_those_of_nilearns_masker_smoothed_or_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(1000, 20, (9, 8, 7, 6)).astype(np.float32)
    scan = save(tmp_path / "scan.nii.gz", values, MM_3)
    labels = random.integers(0, 5, values.shape[:3]).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, MM_3), tmp_path / "atlas.nii.gz")
    for fwhm in (None, 4.0):
        masker = NiftiLabelsMasker(tmp_path / "atlas.nii.gz", smoothing_fwhm=fwhm, standardize=None)
        expected = masker.fit_transform(str(scan))
        found = read_bold(
            scan,
            atlas=tmp_path / "atlas.nii.gz",
            tr_seconds=TR_SECONDS,
            options=ScanOptions(smoothing_fwhm_mm=fwhm),
        )
        assert found.shape == (6, 4)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_planted_parcel_opens_in_nilearn_where_it_was_and_missing_ones_nowhere(
    tmp_path: Path,
) -> None:
    labels = np.zeros((40, 50, 40), np.int16)
    labels[10:13, 20:24, 5:9] = 3
    labels[30:34, 12:15, 20:22] = 8
    nibabel.save(nibabel.Nifti1Image(labels, MM_3), tmp_path / "atlas.nii.gz")
    (tmp_path / "names.tsv").write_text("index\tname\n3\ta\n5\tmissing\n8\tb\n")
    scan = save(tmp_path / "scan.nii.gz", np.ones((40, 50, 40, 2)), MM_3)
    space = space_of_scan(scan, atlas=tmp_path / "atlas.nii.gz", atlas_names=tmp_path / "names.tsv")
    assert space.unit_names == ("a", "missing", "b")
    stream = BytesIO()
    with space.open_files([stream], Series(2, TR_SECONDS, 4.5, "rows of a test")) as file:
        file.add(np.array([[0, np.nan, 7], [2, np.nan, 0]], np.float32))
    path = tmp_path / "film.nii.gz"
    path.write_bytes(stream.getvalue())
    image: Any = load_img(str(path))
    found = np.argwhere(image.get_fdata()[..., 0] == 7).mean(axis=0)
    expected = (-60 + 3 * 31.5, -90 + 3 * 13, -40 + 3 * 20.5)
    np.testing.assert_allclose(coord_transform(*found, image.affine), expected)
    assert (image.get_fdata()[..., 1] == 2).sum() == (labels == 3).sum()
    assert not np.isnan(image.get_fdata()).any()


def test_a_volume_that_was_scrubbed_is_nan_and_takes_no_voxel_out(tmp_path: Path) -> None:
    example = EXAMPLES["parcels"](tmp_path)
    scan: Any = nibabel.load(example.scan)
    values = scan.get_fdata(dtype=np.float32)
    values[..., 4] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, AFFINE, scan.header), example.scan)
    expected_TP = example.bold_TV.copy()
    expected_TP[4] = np.nan
    found_TP = read_bold(example.scan, **example.choosing, tr_seconds=TR_SECONDS)
    np.testing.assert_array_equal(found_TP, expected_TP)


def test_units_are_all_labels_of_the_table_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for kind, build in EXAMPLES.items():
        if kind.startswith("parcels"):
            (tmp_path / kind).mkdir()
            assert build(tmp_path / kind).space.unit_names == tuple(REGIONS.values())


@pytest.mark.parametrize("kind", ["parcels", "parcels in columns"])
def test_an_atlas_on_another_grid_than_the_scan_is_refused(kind: str, tmp_path: Path) -> None:
    example = EXAMPLES[kind](tmp_path)
    atlas = nibabel.load(example.choosing["atlas"])
    nibabel.save(atlas.slicer[1:], example.choosing["atlas"])
    if kind == "parcels":
        told = r"volumes of shape \(4, 5, 3\), where the atlas .*atlas.nii.gz has shape \(3, 5, 3\)"
        with pytest.raises(InputError, match=told):
            example.space.n_trs(example.scan, None, TR_SECONDS)
    else:  # of columns, nobody knows where they lie
        assert example.space.n_trs(example.scan, None, TR_SECONDS) == N_TRS
    mask = EXAMPLES["volume"](tmp_path).choosing["mask"]
    vertices = EXAMPLES["parcels of vertices"](tmp_path).choosing
    with pytest.raises(InputError, match="labels units of a surface, and these are of a volume"):
        space_of_scan(example.scan, mask=mask, **vertices)
    voxels = EXAMPLES["volume"](tmp_path).scan
    told = f"labels units of a surface, and {voxels} has voxels"
    with pytest.raises(InputError, match=re.escape(told)):
        space_of_scan(voxels, **vertices)


@pytest.mark.parametrize(
    "change",
    [{"base": "parcels"}, {"index": [0, 9]}, {"index": [-1, -1]}, {"index": [[0]]}, {"index": []}],
)
def test_a_record_that_puts_units_in_no_parcel_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    space = EXAMPLES["parcels"](tmp_path).space
    files = space.files()
    content = json.loads(unpack(files["parcels.json.gz"])) | change
    files["parcels.json.gz"] = pack(json.dumps(content).encode())
    with pytest.raises(InputError, match=r"^here: its parcels.json.gz does not say which parcel"):
        open_space("parcels", files, space.n_units, "here")
